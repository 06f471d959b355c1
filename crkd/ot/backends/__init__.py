"""The solvers behind :func:`crkd.ot.sinkhorn`, one module each."""

__all__: list[str] = []
