"""Calls of predict that several processes share, each process a fork.

Reads a JSON object from standard input, name to {count, run, images, out, batch}, and prints one,
name to {code, said, images, skipped} of the first process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import scipy.special
import timm
import torch
import torch.distributed as dist

from crkd.core.errors import InputError
from crkd.inference.predict import predict

PRELOADED = (pyarrow.parquet, scipy.special, timm)


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


def main() -> None:
    cases = json.load(sys.stdin)
    place = Path(sys.argv[1])
    found = {name: shared(name, case, place) for name, case in cases.items()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
