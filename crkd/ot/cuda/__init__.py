"""CUDA kernels of Sinkhorn's iterations, compiled at their first use."""

__all__: list[str] = []
