"""Clustering of features: k-means, class counts, novelty, near-duplicates.

faiss is imported in this package alone.
"""
