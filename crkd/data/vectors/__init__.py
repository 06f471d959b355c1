"""Precomputed feature vectors in the place of images."""
