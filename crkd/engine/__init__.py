"""Puts the parts together: training, evaluation, run folders."""
