"""Calls of predict that several processes share, each process a fork."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from crkd.core.errors import InputError
from crkd.inference.predict import predict


def predicted(rank: int, case: dict[str, Any], meeting: Path) -> dict[str, Any]:
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=case["count"])
    try:
        found = predict(
            case["run"],
            case["images"],
            Path(case["out"]),
            device=torch.device("cpu"),
            batch_size=case.get("batch"),
        )
    except InputError as error:
        return {"code": 2, "said": str(error)}
    return {"code": 0, "images": found.num_images, "skipped": len(found.skipped)}


def shared(name: str, case: dict[str, Any], place: Path) -> dict[str, Any]:
    """Return what the first of the processes returned; the others end with it."""
    read, write = os.pipe()
    pids = []
    for rank in range(case["count"]):
        pid = os.fork()
        if not pid:
            try:
                result = predicted(rank, case, place / f"{name}.meeting")
                if rank == 0:
                    os.write(write, json.dumps(result).encode())
                else:
                    assert not result.get("images"), "only the first process counts"
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found: dict[str, Any] = json.loads(pipe.read())
    for pid in pids:
        os.waitpid(pid, 0)
    return found


def shared_calls(cases: dict[str, dict[str, Any]], place: Path) -> dict[str, dict[str, Any]]:
    """Return what the first process of each case returned; done in a fork.

    Args:
        cases: name to {count, run, images, out, batch}.
        place: folder in which the processes of a case meet.

    Returns:
        Name to {code, said, images, skipped}.
    """
    # Another number of threads than that of the test.
    torch.set_num_threads(2)
    return {name: shared(name, case, place) for name, case in cases.items()}
