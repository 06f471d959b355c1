"""Distillation losses: one module each, found by name through ``crkd.losses.term.TERMS``."""
