"""Backends of :func:`crkd.ot.sinkhorn`, one module each."""

__all__: list[str] = []
