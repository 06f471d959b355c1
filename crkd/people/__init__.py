"""What a person meets: pages to look at a run with, and what they decide there."""
