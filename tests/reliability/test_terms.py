"""Known accuracy of discoveries with each distillation term at its defaults.

The short form trains one seed for a few steps on a quarter of the digits at 8 px, so it allows a
larger loss. The long form runs the command's discovery on all digits with three seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from crkd.config.schema import Config
from crkd.losses.term import TERMS, terms_for
from crkd.models.network import Network
from crkd.stages.discover.parent import ParentRun, open_parent
from crkd.stages.discover.run import discover, discovery_loader, student_of
from crkd.stages.discover.task import DiscoveryTask
from crkd.stages.pretrain.run import pretrain
from crkd.stages.run_data import RunData, prepare
from crkd.training.step import TrainingStep
from tests.support.reliability import LONG, Record
from tests.support.small_runs import small_config, thin_data_sets, with_term

CPU = torch.device("cpu")
NAMES = terms_for("discover")
STEPS = 40
SHORT = (
    "data.image_size=8",
    "pretrain.epochs=12",
    "pretrain.batch_size=32",
    "discover.batch_size=48",
    "discover.optimizer.warmup_epochs=1",
)
FULL = ("pretrain.epochs=20", "discover.epochs=20", "discover.batch_size=128")
ALLOWED = 0.02 if LONG else 0.05
"""By how much the known accuracy may be below that of a discovery without terms."""


@pytest.fixture(scope="module")
def all_images() -> RunData:
    return prepare(small_config(*SHORT), CPU)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ParentRun]:
    with pytest.MonkeyPatch.context() as patch:
        thin_data_sets(patch)
        run = pretrain(small_config(*SHORT), tmp_path_factory.mktemp("terms") / "pretrain")
        yield open_parent(small_config(*SHORT), run.path, CPU)


def after_a_few_steps(parent: ParentRun, data: RunData, config: Config) -> float:
    """Return the accuracy on the known test images of ``data``, among all classes."""
    network = student_of(config, parent.architecture, parent.teacher, CPU)
    task = DiscoveryTask(network, parent.teacher, config, CPU, num_known=parent.data.num_known)
    task.modules.train()
    loader = discovery_loader(config, parent.data, CPU)
    step = TrainingStep(
        task,
        config.discover.optimizer,
        total=STEPS,
        steps_per_epoch=loader.steps_per_epoch,
        device=CPU,
    )
    for number, batch in enumerate(loader.batches(0, STEPS)):
        step.prepare(number)
        step.compute(batch)
    return known_accuracy(data, network.eval(), task.chosen_head())


def known_accuracy(data: RunData, network: Network, head: int) -> float:
    labels = data.subsets.hidden.test()
    predicted = data.outputs(network, data.subsets.test).joint[head]
    known = labels < data.num_known
    return float(np.mean(predicted[known] == labels[known]))


@pytest.fixture(scope="module")
def without_terms(parent: ParentRun, all_images: RunData) -> float:
    return after_a_few_steps(parent, all_images, small_config(*SHORT, "discover.distillation=[]"))


@pytest.mark.skipif(LONG, reason="the long form trains this and more")
@pytest.mark.parametrize("name", [n for n in NAMES if "stored_views" not in TERMS.get(n).needs])
def test_a_few_steps_with_a_term_keep_the_known_classes(
    name: str, parent: ParentRun, all_images: RunData, without_terms: float
):
    config = small_config(*SHORT, *with_term("discover", name))
    found = after_a_few_steps(parent, all_images, config)
    assert found >= without_terms - ALLOWED


@pytest.mark.skipif(not LONG, reason="the long form takes an hour; see make reliability")
def test_each_term_at_its_defaults_keeps_the_known_classes(tmp_path: Path, record: Record):
    known: dict[str, list[float]] = {}
    for seed in (0, 1, 2):
        stage1 = pretrain(small_config(*FULL, seed=seed), tmp_path / f"stage1-{seed}")
        settings = {"none": ("discover.distillation=[]",)}
        settings |= {name: with_term("discover", name) for name in NAMES}
        for name, own in settings.items():
            config = small_config(*FULL, *own, seed=seed)
            run = discover(config, tmp_path / f"{name}-{seed}", stage1.path)
            metrics = run.read_metrics()["chosen_head"]["task_agnostic"]["test"]
            known.setdefault(name, []).append(metrics["known"]["acc"])
    means = {name: fmean(each) for name, each in known.items()}
    record("known accuracy by term", **{name: round(mean, 4) for name, mean in means.items()})
    lower = {name: mean for name, mean in means.items() if mean < means["none"] - ALLOWED}
    assert not lower, f"without terms {means['none']:.3f}; lower: {lower}"
