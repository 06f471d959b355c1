"""Distillation of a finished run into a small network."""
