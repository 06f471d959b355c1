"""From the command to the first step: reading images, imports, and what each part of it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.rows import rate, row, synchronize
from benchmarks.train import FAST, setting
from crkd.config.check import plain
from crkd.config.schema import Config
from crkd.core.watched import Job
from crkd.data.splits.partition import Subset
from crkd.data.storage.base import ImageStore
from crkd.data.storage.choose import InMemoryImages, StreamingImages
from crkd.data.storage.workers import cpu_count
from crkd.stages.run_data import prepare

BATCH = 512
ROOT = Path(__file__).resolve().parents[1]
START = """
import json, sys, time
began = float(sys.argv[1])
times = {}
def note(name):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times[name] = time.time() - began
import torch
from crkd.config.load import load_config
from crkd.stages.run_data import prepare
from crkd.gpu_checks.fresh_loops import discovery_loop
note("imports")
device = torch.device(sys.argv[2])
config = load_config(None, json.loads(sys.argv[3]))
data = prepare(config, device)
data.store(data.subsets.known_train)
data.store(data.subsets.unlabeled)
note("images on the device")
loop = discovery_loop(config, data, device)
note("networks")
batches = loop.loader.batches(0, loop.total, rendered=False)
loop.step(next(batches), 0)
note("first step")
for step in range(1, 6):
    loop.step(next(batches), step)
note("sixth step")
print(json.dumps(times))
"""
"""Work of a command up to its first steps, in a process of its own."""

_row = partial(row, "load", complete=False)


def measurements(device: str = "cpu", seconds: float = 20.0) -> list[Job]:
    """Return the measurements of the benchmark file.

    Args:
        device: "cuda" or "cpu".
        seconds: time for each way of reading images, about.
    """
    place = torch.device(device)
    config, data, _ = setting(place)
    part, size = data.subsets.known_train, data.image_size
    workers, images = cpu_count(), f"{config.dataset} {size} px"
    rates: dict[str, Callable[[], float]] = {
        "decoding once, resident": lambda: _decoding(config, place),
        "decoding ahead, streamed": lambda: rate(
            _batches(StreamingImages(part, size, place)), seconds
        ),
        f"DataLoader with {workers} workers and Pillow": lambda: rate(
            _with_data_loader(part, place), seconds, warm_up=2 * workers
        ),
        "resident batches": lambda: rate(_resident(part, place), seconds / 4),
    }
    jobs = [Job("eager: start", partial(_start_up, "eager", config, place, []))]
    if device == "cuda":
        jobs.append(Job("compiled: start", partial(_compiled_start_up, config, place)))
    for way, measure in rates.items():
        name = f"{way}, {images}"
        jobs.append(Job(name, partial(_rate_row, name, measure)))
    if device != "cuda":
        jobs.append(Job("start on an H100", lambda: [_empty_cache_on_h100()]))
    return jobs


def _rate_row(name: str, measure: Callable[[], float]) -> Iterator[dict[str, Any]]:
    yield _row("images/s", name, measure())


def _compiled_start_up(config: Config, device: torch.device) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as cache:
        yield from _start_up("compiled, empty cache", config, device, FAST, Path(cache))
        yield from _start_up("compiled, cached", config, device, FAST, Path(cache))


def _start_up(
    title: str, config: Config, device: torch.device, more: list[str], cache: Path | None = None
) -> list[dict[str, Any]]:
    """Return the seconds since the command began at which each part was done.

    Args:
        title: names the rows.
        config: what is trained.
        device: where.
        more: settings that differ.
        cache: where compiled code is kept; None leaves it where it always is.

    Raises:
        RuntimeError: the command failed; the message is its last line.
    """
    wanted = [f"{key}={json.dumps(value)}" for key, value in plain(config).items()]
    command = [sys.executable, "-c", START, str(time.time()), str(device)]
    command.append(json.dumps([*wanted, *more]))
    environment = dict(os.environ)
    if cache is not None:
        environment |= {
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "TRITON_CACHE_DIR": str(cache / "triton"),
        }
    finished = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        sys.stderr.write(finished.stderr)
        messages = finished.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"exit code {finished.returncode}: {messages[-1]}")
    times: dict[str, float] = json.loads(finished.stdout.strip().splitlines()[-1])
    return [_row("s", f"{title}: start to {name}", value) for name, value in times.items()]


def _decoding(config: Config, device: torch.device) -> float:
    """Return the images a second from files to the device, decoding every image once."""
    data = prepare(config, device)
    start = time.perf_counter()
    InMemoryImages(data.subsets.known_train, data.image_size, device)
    synchronize()
    # The first part that asks has the whole set decoded.
    return len(data.dataset.train) / (time.perf_counter() - start)


def _orders(size: int) -> Iterator[np.ndarray]:
    for number in count():
        order = np.random.default_rng(number).permutation(size)
        yield from np.array_split(order, max(1, size // BATCH))


def _batches(store: ImageStore) -> Iterator[int]:
    for images in store.batches(_orders(len(store))):
        yield len(images)


def _resident(part: Subset, device: torch.device) -> Iterator[int]:
    return _batches(InMemoryImages(part, part.source.read(0).shape[0], device))


class _Encoded(Dataset[Tensor]):
    def __init__(self, part: Subset) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> Tensor:
        pixels = self.part.source.read(int(self.part.indices[index]))
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def _with_data_loader(part: Subset, device: torch.device) -> Iterator[int]:
    loader = DataLoader(
        _Encoded(part),
        batch_size=BATCH,
        shuffle=True,
        num_workers=cpu_count(),
        persistent_workers=True,
    )
    while True:
        for images in loader:
            yield len(images.to(device))


def _empty_cache_on_h100() -> dict[str, Any]:
    name = "compiled, empty cache: start to first step on an H100"
    return _row("s", name, None, device="NVIDIA H100")
