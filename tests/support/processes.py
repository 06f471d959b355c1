"""A few steps of every kind of training: by one process here, or by one of two that share them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.data.loader import BatchLoader
from crkd.data.views import Views
from crkd.gpu_checks.fresh_loops import discovery_loop, pretraining_loop
from crkd.losses.term import terms_for
from crkd.models.network import freeze, with_one_head
from crkd.runs.folder import RunFolder
from crkd.stages.discover.run import student_of
from crkd.stages.distill.student import distillation_loader, student_network, training_parts
from crkd.stages.distill.task import DistillTask
from crkd.stages.pretrain.run import architecture_of, network_for
from crkd.stages.run_data import RunData, prepare
from crkd.training.cached_teacher import store_teacher
from crkd.training.loop import Loop
from crkd.training.teacher import LiveTeacher
from tests.support.small_runs import thin_data_sets, with_term

STEPS = 3
CPU = torch.device("cpu")
SMALL = (
    "data.image_size=8",
    "model.hidden=16",
    "model.projection=8",
    "model.num_heads=2",
    # 15 labeled and 18 unlabeled rows or so: neither is divided evenly.
    "pretrain.batch_size=33",
    "discover.batch_size=33",
    "distill.batch_size=33",
    "discover.optimizer={warmup_epochs: 0, lr: 0.05}",
    "pretrain.optimizer={warmup_epochs: 0, lr: 0.05}",
)
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "pretrain": ("pretrain", ()),
    "pretrain tolerant": ("pretrain", with_term("pretrain", "tolerant")),
    "discover": ("discover", ()),
    "small views": ("discover", ("discover.num_small=2",)),
    "queue and prior": (
        "discover",
        ("discover.assignment={queue: 64, queue_start_epoch: 0, prior: estimated}",),
    ),
    "overclustering, batch norm per view": (
        "discover",
        ("model.overclustering=2", "model.batch_norm_per_view=true"),
    ),
    "distill simkd": ("distill", with_term("distill", "simkd")),
    **{
        f"discover {name}": ("discover", with_term("discover", name))
        for name in terms_for("discover")
    },
}


def distillation_loop(config: Config, data: RunData, run: RunFolder) -> Loop:
    known = architecture_of(config, data)
    both = dataclasses.replace(known, num_novel=len(data.split.novel))
    stage1 = network_for(config, known)
    teacher = freeze(with_one_head(student_of(config, both, stage1, CPU), 1))
    shape = dataclasses.replace(both, num_heads=1, projected=teacher.backbone.num_features)
    network = student_network(config, shape, teacher, 7)
    task = DistillTask(network, teacher, config, CPU)
    task.modules.train()
    parts = training_parts(config, data, num_novel=len(data.split.novel))
    return Loop(
        task,
        distillation_loader(config, data, parts, CPU),
        config=config,
        optimizer=config.distill.optimizer,
        epochs=1,
        run=run,
        device=CPU,
    )


class DoubleViews(Views):
    """The same views in float64."""

    def render(self, *images: Tensor, **numbers: Any) -> tuple[Tensor, ...]:
        return tuple(view.double() for view in super().render(*images, **numbers))


def double_views(views: Views) -> Views:
    """Return the same views in float64."""
    given = {f.name: getattr(views, f.name) for f in dataclasses.fields(Views) if f.init}
    return DoubleViews(**given)


def loop_of(name: str, folder: Path, data: RunData) -> Loop:
    """Return a loop in float64.

    In float32 an untrained network of few rows turns another order of summing into differences of
    a thousandth within three steps, among which a mistake could hide.
    """
    loop = _loop_of(name, folder, data)
    loop.task.modules.network.double()
    loop.task.modules.terms.double()
    loop.loader.views = double_views(loop.loader.views)
    if isinstance(getattr(loop.task, "teacher", None), LiveTeacher):
        loop.task.teacher.network.double()
    config = loop.config
    if config.discover.stored_epochs:
        loop.task.teacher = store_teacher(
            loop,
            loop.task.teacher,
            loop.task.teacher_network,
            mode=config.discover.label_mode,
            num_classes=data.num_known,
            resume=False,
        )
    return loop


def _loop_of(name: str, folder: Path, data: RunData) -> Loop:
    stage, settings = CASES[name]
    config = load_config("digits", [*SMALL, *settings])
    run = RunFolder(folder / name.replace(" ", "-"))
    if stage == "distill":
        return distillation_loop(config, data, run)
    if stage == "pretrain":
        return pretraining_loop(config, data, CPU)
    loop = discovery_loop(config, data, CPU)
    loop.run = run
    return loop


def trained(name: str, folder: Path, data: RunData) -> dict[str, Tensor]:
    """Return every logged value of every step, and all weights and buffers after the last."""
    loop = loop_of(name, folder, data)
    found = {}
    for step, batch in enumerate(loop.loader.batches(0, STEPS)):
        if step == 0:
            loop.task.start_epoch(0)
        loop.step(batch, step)
        metrics = loop.training_step.totals.take()
        found |= {f"figure {step} {key}": torch.tensor(v) for key, v in metrics.items()}
    state = loop.task.modules.state_dict()
    return found | {f"state {key}": value.clone() for key, value in state.items()}


def data_of_cases() -> RunData:
    with pytest.MonkeyPatch.context() as patch:
        thin_data_sets(patch)
        return prepare(load_config("digits", list(SMALL)), CPU)


def first_views(loader: BatchLoader) -> Tensor:
    return torch.stack(next(iter(loader.batches(3, 4))).views)


def one_of_two(rank: int, folder: Path) -> Path:
    """Train every case as one of two processes that share a folder; return the file of results."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    data = data_of_cases()
    found = {name: trained(name, folder, data) for name in CASES}
    found["views"] = {"views": first_views(loop_of("discover", folder, data).loader)}
    torch.save(found, results := folder / f"end{rank}")
    dist.barrier()
    dist.destroy_process_group()
    return results
