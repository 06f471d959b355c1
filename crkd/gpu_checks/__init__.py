"""Checks that need a GPU, and the list of what a lent GPU should measure."""
