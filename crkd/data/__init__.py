"""Where images come from: sources, data sets, known and novel classes, images at rest."""
