"""A finished run applied to new images, and exported."""
