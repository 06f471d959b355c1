"""OTT-JAX's solver of the same problem, in a process of its own.

``sinkhorn_processor.py`` runs this file by an interpreter that has OTT-JAX and NumPy (not this
project), named by ``CRKD_OTT_PYTHON``. Each line of the standard input is a request in JSON, each
line of the standard output the reply.

    python ott_sinkhorn.py THREADS
    {"load": "scores.npy", "epsilon": 0.05, "iterations": 3, "lse": false}  ->  {"loaded": true}
    {"save": "assignment.npy"}                                              ->  {"saved": true}
    {"time": true}                                                          ->  {"seconds": 0.0003}

The first reply, without a request, has the versions.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any


def solver(epsilon: float, iterations: int, lse: bool) -> Callable[[Any], Any]:
    """Return the compiled function from scores ``(P, N, M)`` to assignments.

    Args:
        epsilon: weight of the entropy.
        iterations: number of iterations, without checks between them.
        lse: whether to iterate in logarithms, the default of OTT; otherwise with exponentials.
    """
    import jax
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    solve = Sinkhorn(
        lse_mode=lse,
        threshold=0.0,
        min_iterations=iterations,
        max_iterations=iterations,
        inner_iterations=iterations,
    )

    def one(scores: Any) -> Any:
        problem = LinearProblem(Geometry(cost_matrix=-scores, epsilon=epsilon))
        return solve(problem).matrix * scores.shape[0]

    return jax.jit(jax.vmap(one))  # type: ignore[no-any-return]


def serve(threads: int) -> None:
    """Reply to requests until the standard input ends."""
    replies, sys.stdout = sys.stdout, sys.stderr
    if hasattr(os, "sched_setaffinity"):
        # XLA starts one thread for each processor that it may use.
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax.numpy as jnp
    import numpy as np

    def reply(**content: Any) -> None:
        print(json.dumps(content), file=replies, flush=True)

    reply(versions={name: version(name) for name in ("jax", "jaxlib", "ott-jax")})
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            scores = jnp.asarray(np.load(request["load"]))
            solve = solver(request["epsilon"], request["iterations"], request["lse"])
            solve(scores).block_until_ready()
            reply(loaded=True)
        elif "save" in request:
            np.save(request["save"], np.asarray(solve(scores)))
            reply(saved=True)
        else:
            start = time.perf_counter()
            solve(scores).block_until_ready()
            reply(seconds=time.perf_counter() - start)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(int(sys.argv[1]))
