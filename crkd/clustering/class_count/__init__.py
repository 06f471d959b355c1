"""The number of novel classes, estimated as a range with evidence."""
