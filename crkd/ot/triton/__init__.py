"""Triton form of the streaming kernels. Only :mod:`crkd.ot.triton.launches` imports Triton."""

__all__: list[str] = []
