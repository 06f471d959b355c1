"""Stage 1: supervised training on the known classes."""
