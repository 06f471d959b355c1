"""Backbones: one module a family; each registers its names with ``BACKBONES``."""
