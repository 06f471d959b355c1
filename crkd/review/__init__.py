"""The review of discovered classes: a page to decide on, and the run that the decisions make."""
