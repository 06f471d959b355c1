"""Images at rest: in memory or decoded ahead of use."""
