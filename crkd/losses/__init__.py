"""Training losses: pure functions, and thin modules where something is trained."""
