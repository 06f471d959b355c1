"""Many short epochs take no more memory, files or threads than a few."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.config.load import load_config
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.stages.run_data import prepare
from tests.support.reliability import LONG, Record

EPOCHS = 1000 if LONG else 30
SETTLED = EPOCHS // 3
MEBIBYTE = 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_nothing_grows(tmp_path: Path, record: Record) -> None:
    random = np.random.default_rng(0)
    for folder in ("known/cat", "known/dog", "novel"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(16):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    config = load_config(
        "digits",
        [
            f"discover.epochs={EPOCHS}",
            "discover.batch_size=24",
            "discover.num_novel=2",
            "discover.assignment={queue: 64, prior: estimated}",
            "model.hidden=16",
            "model.num_heads=2",
            # Decoded again in every epoch, by threads; and every step is logged and saved.
            "data.storage=streaming",
            "loop.log_every=1",
            "loop.checkpoint_every=1.0e-9",
        ],
        {
            "dataset": "folder",
            "data": {"known": str(tmp_path / "known"), "novel": str(tmp_path / "novel")},
        },
    )
    cpu = torch.device("cpu")
    loop = discovery_loop(config, prepare(config, cpu), cpu)
    begin, seen = loop.task.start_epoch, []

    def start_epoch(epoch: int) -> None:
        handles = len(os.listdir("/proc/self/fd"))
        seen.append((resident_bytes(), handles, threading.active_count()))
        begin(epoch)

    loop.task.start_epoch = start_epoch  # type: ignore[method-assign]
    loop.train()
    assert len(seen) == EPOCHS
    early, late = seen[SETTLED : SETTLED + 5], seen[-5:]
    growth = (max(row[0] for row in late) - max(row[0] for row in early)) / MEBIBYTE
    # A decoding thread may have a file open at the moment of a count: the least count tells a leak.
    (first, last) = ([min(row[n] for row in part) for n in (1, 2)] for part in (early, late))
    record("soak", epochs=EPOCHS, growth_mib=round(growth, 2), handles=last[0], threads=last[1])
    assert growth < 8
    assert last[0] <= first[0]
    assert last[1] <= first[1]
