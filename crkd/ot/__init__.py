"""Entropic optimal transport that turns scores into balanced class assignments."""

from crkd.ot.sinkhorn import sinkhorn

__all__ = ["sinkhorn"]
