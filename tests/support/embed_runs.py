"""Calls of embed that are killed, interrupted or shared by two processes, each in a fork."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from crkd.embedding import assemble, parts
from crkd.embedding.plan import EmbedSettings
from crkd.embedding.run import embed
from crkd.training.interruption import Interrupted

SETTINGS = EmbedSettings(image_size=32, runtime="torch", workers=2)


def counts(images: Path, out: Path) -> dict[str, Any]:
    made = embed([images], out, SETTINGS, log=lambda line: None)
    return {"embedded": made.embedded, "reused": made.reused, "rows": made.rows}


def in_fork(work: Callable[[], Any]) -> tuple[int, Any]:
    """Return the wait status of a process that does ``work``, and what it returned."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 0
        try:
            os.write(write, json.dumps(work()).encode())
        except BaseException:  # noqa: BLE001 whatever it is, the parent sees the code
            traceback.print_exc()
            code = 1
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    return os.waitpid(pid, 0)[1], json.loads(said) if said else None


def killed_in_a_part(images: Path, out: Path) -> None:
    """End without warning inside the write of the third part, before it gets its name."""
    honest, written = os.replace, []

    def replace(old: str, new: Path) -> None:
        written.append(new)
        if sum(Path(path).name.startswith("part-") for path in written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        honest(old, new)

    os.replace = replace
    counts(images, out)


def killed_at_the_end(images: Path, out: Path) -> None:
    """End without warning when the final file is written and does not have its name."""
    honest = os.replace

    def replace(old: Path, new: Path) -> None:
        if new == out:
            os.kill(os.getpid(), signal.SIGKILL)
        honest(old, new)

    assemble.os.replace = replace
    counts(images, out)


def interrupted(images: Path, out: Path) -> str:
    """Get a signal when the vectors of the first batch are there."""
    honest = parts.PartWriter.add

    def add(*arguments: Any) -> None:
        # A second signal would end the process at once.
        parts.PartWriter.add = honest
        honest(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    parts.PartWriter.add = add
    try:
        counts(images, out)
    except Interrupted as stop:
        return str(stop)
    return "not interrupted"


def one_of_two(rank: int, meeting: Path, images: Path, out: Path) -> dict[str, Any]:
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    made = counts(images, out)
    dist.barrier()
    dist.destroy_process_group()
    return made


def two_processes(images: Path, out: Path) -> dict[str, Any]:
    meeting = out.with_suffix(".meeting")
    second = os.fork()
    if not second:
        try:
            one_of_two(1, meeting, images, out)
        finally:
            os._exit(0)
    made = one_of_two(0, meeting, images, out)
    os.waitpid(second, 0)
    return made


def embedded(images: Path, place: Path) -> dict[str, Any]:
    """Embed a folder of images into files of ``place`` in every way; done in a fork."""
    torch.set_num_threads(1)
    parts.PART_ROWS = 8
    found: dict[str, Any] = {}
    for name, first in (
        ("straight", None),
        ("part", killed_in_a_part),
        ("end", killed_at_the_end),
        ("signal", interrupted),
    ):
        out = place / f"{name}.parquet"
        entry: dict[str, Any] = {}
        if first is not None:
            entry["status"], entry["said"] = in_fork(lambda f=first, o=out: f(images, o))
            entry["out"] = out.exists()
            entry["parts"] = len(list(parts.parts_folder(out).glob("part-*.npy")))
        _, entry["then"] = in_fork(lambda o=out: counts(images, o))
        found[name] = entry
    _, made = in_fork(lambda: two_processes(images, place / "two.parquet"))
    found["two"] = {"then": made}
    return found
