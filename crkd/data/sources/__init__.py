"""Image sources, one layout a module; a module that serves a named data set registers it."""
