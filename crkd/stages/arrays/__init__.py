"""Discovery on arrays in memory, for the estimator."""
