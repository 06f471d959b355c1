"""Baselines as runs of their own: k-means and the supervised upper bound."""
