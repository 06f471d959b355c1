"""One of two processes that share a batch: solves its part and stores it.

Arguments: rank, file for the rendezvous, file with the case, file for the result.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist

from crkd.ot import sinkhorn


def main() -> None:
    rank = int(sys.argv[1])
    case = torch.load(sys.argv[3], weights_only=True)
    dist.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2)
    calls: list[str] = []
    all_reduce = dist.all_reduce

    def counted(tensor: torch.Tensor, op: dist.ReduceOp, group: object = None) -> object:
        calls.append(str(op))
        return all_reduce(tensor, op, group)

    dist.all_reduce = counted
    result = sinkhorn(
        case["scores"][rank],
        epsilon=case["epsilon"],
        num_iters=case["num_iters"],
        class_marginal=case["class_marginal"],
        sample_marginal=case["sample_marginal"] and case["sample_marginal"][rank],
        relaxation=case["relaxation"],
        group=dist.group.WORLD,
    )
    sums = sum("SUM" in name for name in calls)
    torch.save({"result": result, "sums": sums, "calls": len(calls)}, sys.argv[4])
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
