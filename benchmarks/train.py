"""Training throughput: each stage and the whole, against a plain pipeline in the same process.

Both sides train the same discovery step on the same images: ours as a run does it, the other with
torchvision transforms behind a DataLoader and the plain step of ``plain.py``. Only that complete
pipeline carries a ratio, and only if both give the same loss on one batch.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import resource
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from benchmarks.augment import ReleasedViews
from benchmarks.parts import PARTS
from benchmarks.plain import PlainDiscovery
from benchmarks.rows import rate, row, synchronize
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.types import Batch
from crkd.core.watched import Job
from crkd.data.storage.workers import cpu_count
from crkd.gpu_checks.fresh_loops import discovery_loop, pretraining_loop
from crkd.runs.console import TrainingProgress
from crkd.stages.run_data import RunData, prepare
from crkd.training.loggers.base import open_logs
from crkd.training.loop import Loop

TERM = "discover.distillation=[{name: class_relation, weight: 0.1}]"
SMALL = [
    "model.backbone=resnet8",
    "model.hidden=256",
    "model.projection=64",
    "discover.batch_size=128",
    "pretrain.batch_size=128",
    TERM,
]
COMPILES = importlib.util.find_spec("triton") is not None
FAST = ["loop.step=auto", f"loop.compile={str(COMPILES).lower()}"]
"""Fastest settings of a GPU, with the installed packages."""

LOSS_TOLERANCE = 3e-2
FIRST_STEP = "time to the first step, images decoded"
RELEASED = "the released code on one H100"

_row = partial(row, "train")


def measurements(device: str = "cpu", seconds: float = 80.0) -> list[Job]:
    """Return the measurements of the benchmark file.

    On a GPU the published CIFAR-100 50/50 setting, captured and compiled; on a CPU a small
    network and batch. Without an H100 its rows are there with the value None.

    Args:
        device: "cuda" or "cpu".
        seconds: wall time to spend measuring, about; start-up adds some.
    """
    bench = _Bench(torch.device(device))
    complete = f"complete discovery step, {bench.title}"
    jobs = [
        Job(FIRST_STEP, lambda: [_row("s", FIRST_STEP, bench.started[1])]),
        Job(complete, partial(_complete, complete, bench, 0.5 * seconds), FIRST_STEP),
    ]
    others = _other_steps(bench)
    slot = 0.45 * seconds / (len(PARTS) + len(others))
    for name, part in PARTS.items():
        jobs.append(Job(name, partial(_part, name, bench, part, slot), FIRST_STEP))
    for name, loop in others.items():
        jobs.append(Job(name, partial(_other_step, name, loop, slot)))
    jobs.append(Job("logging", partial(_logging, bench, 0.05 * seconds), FIRST_STEP))
    return jobs


class _Bench:
    """Data of several measurements, created by the first one in a process."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.config, self.data, self.title = setting(device)

    @cached_property
    def started(self) -> tuple[Loop, float]:
        """A loop as this device trains fastest, and the seconds until its first step was done."""
        config = self.config
        if self.device.type == "cuda":
            config = load_config(None, _settings(config, FAST))
        return _first_step(config, self.data, self.device)

    @property
    def loop(self) -> Loop:
        """That loop."""
        return self.started[0]

    @cached_property
    def batch(self) -> Batch:
        """One of its batches."""
        return next(iter(self.loop.loader.batches(0, 1)))


def _complete(name: str, bench: _Bench, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the rows of whole steps.

    Raises:
        RuntimeError: the two sides differ in their loss, so that no speed would count.
    """
    config, data, device = bench.config, bench.data, bench.device
    ours = partial(rate, trained(bench.loop), 0.25 * seconds)
    # Ours before and after, so that a change of the machine's load hits both sides.
    before = ours()
    memory = _peak_memory(device)
    _check(config, data, device)
    baseline = rate(_plain(config, data, device), 0.5 * seconds, warm_up=2 * cpu_count())
    value = 2 / (1 / before + 1 / ours())
    yield _row("images/s", name, value, baseline)
    kind = "GPU" if device.type == "cuda" else "process"
    yield _row("GiB", f"peak memory ({kind})", memory)
    yield from _on_h100(value, memory, device)


def setting(device: torch.device) -> tuple[Config, RunData, str]:
    """Return configuration, images and a title: CIFAR-100 if it is found, else the digits."""
    if device.type == "cuda":
        wanted = ["dataset=cifar100", "split=50-50", TERM]
    else:
        wanted = ["dataset=cifar100", "split=10-10", *SMALL]
    try:
        config = load_config(None, wanted)
        data = prepare(config, device)
    except InputError:
        config = load_config(None, ["dataset=digits", *SMALL])
        data = prepare(config, device)
    size, settings = data.image_size, config.discover
    small = round(size * settings.small.size_share)
    title = (
        f"{config.dataset} {data.split.name}, {config.model.backbone}, batch "
        f"{settings.batch_size}, {settings.num_large} x {size} px + {settings.num_small} x "
        f"{small} px, {config.model.num_heads} heads"
    )
    return config, data, title


def _settings(config: Config, more: list[str]) -> list[str]:
    return [f"dataset={config.dataset}", f"split={config.split}", TERM, *more]


def _first_step(config: Config, data: RunData, device: torch.device) -> tuple[Loop, float]:
    """Return a loop and the seconds until its first step was done, images being decoded."""
    for part in (data.subsets.known_train, data.subsets.unlabeled):
        data.store(part)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    loop = discovery_loop(config, data, device)
    next(trained(loop))
    synchronize()
    return loop, time.perf_counter() - start


def trained(loop: Loop) -> Iterator[int]:
    """Train as :meth:`Loop.train` does between two log lines; yield the images of each step."""
    for step, batch in zip(count(), loop.loader.batches(0, 10**9, rendered=False), strict=False):
        loop.step(batch, step % loop.total)
        yield sum(loop.loader.counts)


def _check(config: Config, data: RunData, device: torch.device) -> None:
    """Both sides must give one loss on one batch; batch norm sees the same views together."""
    loop = discovery_loop(config, data, device)
    batch = next(iter(loop.loader.batches(0, 1)))
    model = _plain_model(loop, joint_forward=True).to(device)
    theirs = float(model.losses(batch.views, batch.labels, batch.num_labeled).detach())
    mine = float(loop.task.losses(batch)[0].detach())
    if not abs(mine - theirs) < LOSS_TOLERANCE * abs(theirs):
        raise RuntimeError(f"the losses differ ({mine}, plain {theirs}): no speed counts")


def _plain_model(loop: Loop, *, joint_forward: bool = False) -> PlainDiscovery:
    task: Any = loop.task
    model = PlainDiscovery(
        task.modules.network,
        task.teacher_network,
        loop.config.discover,
        joint_forward=joint_forward,
    )
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.train()
    model.teacher.eval()
    return model


class _Labeled(Dataset[tuple[list[Tensor], int]]):
    """Views of one part by torchvision, with the label that training may see."""

    def __init__(self, loop: Loop, data: RunData, known: bool) -> None:
        part = data.subsets.known_train if known else data.subsets.unlabeled
        store = data.store(part)
        assert store is not None
        images = store.get(torch.arange(len(part), device=data.device)).cpu()
        views = loop.loader.views
        self.views = ReleasedViews(images, views.recipes, views.mean, views.std)
        self.labels = [int(label) for label in part.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self.views[index], self.labels[index]


def _plain(config: Config, data: RunData, device: torch.device) -> Iterator[int]:
    """Train plainly on shuffled batches of a DataLoader; yield the images of each step."""
    loop = discovery_loop(config, data, device)
    model = _plain_model(loop).to(device)
    parts = [_Labeled(loop, data, known=True), _Labeled(loop, data, known=False)]
    loader: DataLoader[tuple[list[Tensor], int]] = DataLoader(
        ConcatDataset(parts),
        batch_size=config.discover.batch_size,
        shuffle=True,
        num_workers=cpu_count(),
        persistent_workers=True,
        drop_last=True,
        pin_memory=device.type == "cuda",
    )
    while True:
        for views, labels in loader:
            # Labeled rows first, as the step wants them.
            order = (labels < 0).to(torch.uint8).argsort(stable=True)
            num_labeled = int((labels >= 0).sum())
            shown = [view[order].to(device) for view in views]
            model.step(shown, labels[order].to(device), num_labeled, rate=0.01)
            yield len(labels)


def _part(
    name: str, bench: _Bench, part: Callable[[Loop, Batch], Iterator[int]], seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield the row of a part of a step on its own, which carries no ratio."""
    images_per_second = rate(part(bench.loop, bench.batch), seconds)
    yield _row("images/s", name, images_per_second, complete=False)


def _other_steps(bench: _Bench) -> dict[str, Callable[[], Loop]]:
    """Return the loops of other steps, each made when it is called."""
    config, data, device = bench.config, bench.data, bench.device
    loops: dict[str, Callable[[], Loop]] = {
        "pretraining step": partial(pretraining_loop, config, data, device)
    }
    if device.type == "cuda":
        captured = dataclasses.replace(config, loop=dataclasses.replace(config.loop, step="auto"))
        loops["whole step, eager"] = partial(discovery_loop, config, data, device)
        loops["whole step, captured, not compiled"] = partial(
            discovery_loop, captured, data, device
        )
    return loops


def _other_step(name: str, loop: Callable[[], Loop], seconds: float) -> Iterator[dict[str, Any]]:
    yield _row("images/s", name, rate(trained(loop()), seconds), complete=False)


def _peak_memory(device: torch.device) -> float:
    """Return GiB: what was allocated on the GPU, or resident in the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _logging(bench: _Bench, seconds: float, lines: int = 20) -> Iterator[dict[str, Any]]:
    """Yield the share of a run that log lines and progress take."""
    loop, batch = bench.loop, bench.batch
    seconds_per_step = sum(loop.loader.counts) / rate(trained(loop), seconds)
    spent = 0.0
    with (
        open_logs(loop.run, loop.config, 0) as logs,
        TrainingProgress("bench", 10**6, 0, len(batch.labels)) as bar,
    ):
        for line in range(lines):
            loop.step(batch, 1)
            synchronize()
            start = time.perf_counter()
            bar.show(line, loop.log(line, logs))
            spent += time.perf_counter() - start
    share = 100 * spent / lines / (loop.config.loop.log_every * seconds_per_step)
    yield _row("%", f"logging every {loop.config.loop.log_every} steps, share of the time", share)


def _on_h100(value: float, memory: float, device: torch.device) -> list[dict[str, Any]]:
    """Return the rows of the published setting, measured on that card or None."""
    here = device.type == "cuda" and "H100" in torch.cuda.get_device_name(device)
    title = "CIFAR-100 50/50, resnet18, batch 512, 2 x 32 px + 2 x 18 px, 4 heads"
    name = "NVIDIA H100" if not here else torch.cuda.get_device_name(device)
    return [
        _row(
            "images/s",
            f"discovery on an H100, {title}, everything included; baseline: {RELEASED}",
            value if here else None,
            2336.0,
            device=name,
        ),
        _row(
            "min",
            f"500 epochs on an H100, {title}, with evaluation; baseline: {RELEASED}, about 3 h",
            None,
            180.0,
            device=name,
        ),
        _row("GiB", f"peak memory on an H100, {title}", memory if here else None, device=name),
    ]
