"""Every fast path gives the loss curve of the plain float64 step on real images."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.plain import PlainDiscovery
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset, load_dataset
from crkd.data.sources.arrays import ArraySource
from crkd.data.splits.class_split import ClassSplit
from crkd.data.splits.partition import partition
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.stages.run_data import RunData
from crkd.training.cuda_graph import CudaGraphStep
from crkd.training.loop import Loop
from tests.support.steps import CPU, TapeCapture

STEPS = 8
FIRST, FIRST_TOLERANCE = 3, 1e-5
"""Largest relative difference of the first losses, float32 against float64."""
TOLERANCE = 1e-2
"""The same of all: training amplifies a rounding about tenfold a step."""
HALF_TOLERANCE = 3e-2
"""The same for bfloat16, whose numbers have eight binary digits."""

SHAPE = [
    "model.backbone=resnet8",
    "model.hidden=48",
    "model.projection=24",
    "model.num_heads=3",
    "discover.batch_size=40",
    "discover.epochs=1",
    "discover.optimizer={lr: 0.01, warmup_epochs: 0.5}",
    "discover.distillation=[{name: class_relation, weight: 0.1}]",
]


def images(name: str, folder: Path | None) -> Dataset:
    """Return 40 images of each of ten classes."""
    whole = load_dataset(name, folder)
    rows = np.concatenate([np.flatnonzero(whole.train.labels == c)[:40] for c in range(10)])
    pixels = np.stack([whole.train.read(int(row)) for row in rows])
    source = ArraySource(pixels, whole.train.labels[rows], whole.class_names)
    return dataclasses.replace(whole, train=source, test=None)


@pytest.fixture(scope="module", params=["cifar100", "digits"])
def real(request: pytest.FixtureRequest) -> Dataset:
    try:
        return images(request.param, None)
    except InputError as error:
        pytest.skip(f"{request.param} is not here: {error}")


def loop_on(dataset: Dataset, *settings: str, storage: str = "in_memory") -> Loop:
    config: Config = load_config(None, [*SHAPE, f"data.storage={storage}", *settings])
    split = ClassSplit(
        dataset.name, "5-5", dataset.class_names, tuple(range(5)), tuple(range(5, 10))
    )
    parts = partition(dataset, split, validation_fraction=0.0, seed=0)
    size = dataset.image_size
    data = RunData(dataset, split, parts, size, CPU, size, config, [])
    return discovery_loop(config, data, CPU)


def curve(loop: Loop, steps: int = STEPS) -> list[float]:
    found = []
    for step, batch in enumerate(loop.loader.batches(0, steps)):
        loop.step(batch, step)
        found.append(loop.training_step.totals.take()["loss"])
    return found


@pytest.fixture(scope="module")
def plain(real: Dataset) -> list[float]:
    """The specification: loops over heads, views and problems, in float64, plain SGD."""
    loop = loop_on(real)
    task = loop.task
    model = PlainDiscovery(
        task.modules.network, task.teacher_network, loop.config.discover, joint_forward=True
    ).double()
    model.train()
    model.teacher.eval()
    found = []
    for step, batch in enumerate(loop.loader.batches(0, STEPS)):
        loop.training_step.prepare(step)
        views = [view.double() for view in batch.views]
        rate = loop.training_step.rate
        found.append(model.step(views, batch.labels, batch.num_labeled, rate))
    return found


@pytest.fixture(scope="module")
def eager(real: Dataset) -> list[float]:
    """The curve of the step as crkd runs it on a processor."""
    return curve(loop_on(real))


def worst(ours: list[float], theirs: list[float], steps: int = STEPS) -> float:
    pairs = list(zip(ours, theirs, strict=True))[:steps]
    return max(abs(a - b) / abs(b) for a, b in pairs)


def test_the_curve_moves(plain: list[float]) -> None:
    """A curve that stays where it is would agree with anything."""
    assert all(math.isfinite(loss) for loss in plain)
    assert max(plain) - min(plain) > 5 * TOLERANCE * plain[0]


def test_heads_views_and_problems_at_once(eager: list[float], plain: list[float]) -> None:
    assert worst(eager, plain, FIRST) < FIRST_TOLERANCE
    assert worst(eager, plain) < TOLERANCE


@pytest.mark.parametrize("wrong", ["assignment.num_iters=2", "optimizer.momentum=0.8"])
def test_a_wrong_step_is_noticed(real: Dataset, plain: list[float], wrong: str) -> None:
    first = curve(loop_on(real, f"discover.{wrong}"), FIRST)
    assert worst(first, plain[:FIRST]) > 10 * FIRST_TOLERANCE


def test_half_precision_stays_close(real: Dataset, plain: list[float]) -> None:
    assert worst(curve(loop_on(real, "loop.precision=bfloat16")), plain) < HALF_TOLERANCE


def test_streamed_images_change_nothing(real: Dataset, eager: list[float]) -> None:
    assert curve(loop_on(real, storage="streaming")) == eager


def test_a_replayed_step_changes_nothing(real: Dataset, eager: list[float]) -> None:
    replayed = loop_on(real)
    capture = TapeCapture(replayed)
    replayed._compute = CudaGraphStep(replayed.training_step, capture, strict=True)
    assert curve(replayed) == eager
    assert capture.captures == 1


def test_compiled_steps_agree(
    real: Dataset, eager: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced, differentiated ahead of time and decomposed; kernels are the GPU checks' matter."""
    if real.name == "digits":
        pytest.skip("compiling once is enough")
    traced = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", traced)
    compiled = curve(loop_on(real, "loop.compile=true"))
    assert worst(compiled, eager, FIRST) < FIRST_TOLERANCE
    assert worst(compiled, eager) < TOLERANCE
