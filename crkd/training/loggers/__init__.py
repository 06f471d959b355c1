"""Where the figures of a training go: one file a kind of log."""
