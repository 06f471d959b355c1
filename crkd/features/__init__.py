"""What is computed from features at rest; the only home of faiss."""
