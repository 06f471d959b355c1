"""The solvers behind :func:`crkd.ot.sinkhorn`, one module each."""
