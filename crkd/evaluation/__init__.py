"""Scores of a run under every protocol, from its prediction table; NumPy only, no torch."""
