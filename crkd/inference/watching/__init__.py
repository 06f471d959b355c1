"""Prediction of new images as they come, with a state on disk."""

from crkd.inference.watching.watcher import Pass, Watcher, watching

__all__ = ["Pass", "Watcher", "watching"]
