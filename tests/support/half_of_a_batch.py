"""One of two processes that share batches: solves its part of each and stores it.

Arguments: rank, file for the rendezvous, file with the cases, file for the results.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist

from crkd.ot import sinkhorn


def main() -> None:
    rank = int(sys.argv[1])
    dist.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2)
    calls: list[str] = []
    all_reduce = dist.all_reduce

    def counted(tensor: torch.Tensor, op: dist.ReduceOp, group: object = None) -> object:
        calls.append(str(op))
        return all_reduce(tensor, op, group)

    dist.all_reduce = counted
    results = {}
    for name, case in torch.load(sys.argv[3], weights_only=True).items():
        calls.clear()
        weights = case["sample_marginal"]
        result = sinkhorn(
            case["scores"][rank],
            epsilon=case["epsilon"],
            num_iters=case["num_iters"],
            class_marginal=case["class_marginal"],
            sample_marginal=None if weights is None else weights[rank],
            relaxation=case["relaxation"],
            group=dist.group.WORLD,
        )
        sums = sum("SUM" in call for call in calls)
        results[name] = {"result": result, "sums": sums, "calls": len(calls)}
    torch.save(results, sys.argv[4])
    # Gloo's threads die badly when one side leaves while the other still talks to it, and now and
    # then when the interpreter is torn down around them.
    dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    main()
