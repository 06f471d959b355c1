"""Stage 2: discovery of the novel classes."""
