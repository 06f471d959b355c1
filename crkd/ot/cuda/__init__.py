"""Hand-written CUDA kernels for Sinkhorn's iterations, compiled at their first use."""

__all__: list[str] = []
