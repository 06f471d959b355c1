"""What a run is: the typed schema, and how files and flags become it."""
