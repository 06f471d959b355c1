"""Discovery on arrays of feature vectors."""
