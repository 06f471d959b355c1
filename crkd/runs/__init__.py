"""Run folders on disk: reading, writing, finding and describing them."""
