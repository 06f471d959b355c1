"""Between two log lines the host must not look at a value on the device.

On the CPU a look costs nothing and nobody notices; these tests run the code that a GPU would run
and forbid every operation that would make the host wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from crkd.config.load import load_config
from crkd.gpu_checks.fresh_loops import pretraining_loop
from crkd.losses.term import TERMS, terms_for
from crkd.stages.run_data import prepare
from crkd.training.cached_teacher import store_teacher
from crkd.training.loop import Loop
from tests.support.steps import CPU, device_branches, loop_of, tiny

aten = torch.ops.aten
WAITING = (
    aten._local_scalar_dense,  # item, int, float, bool, index by a tensor
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten.is_nonzero,
    aten.unique_dim,
    aten.unique_consecutive,
    aten._unique2,
    aten.repeat_interleave.Tensor,
    aten.bincount,
)
TO_THE_HOST = ("cpu", "numpy", "tolist", "__array__")


class LookError(AssertionError):
    """The host looked at a value."""


class NoLooking(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        masks = function.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
            place is not None and place.dtype == torch.bool for place in args[1]
        )
        if masks or function in WAITING or function.overloadpacket in WAITING:
            raise LookError(str(function))
        return function(*args, **(kwargs or {}))


@contextmanager
def no_looking() -> Iterator[None]:
    """Forbid looks at values, and take the branches of a device that is not the CPU."""

    def forbidden(name: str) -> Callable[..., Any]:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise LookError(f"Tensor.{name}")

        return refuse

    with pytest.MonkeyPatch.context() as patch, device_branches(), NoLooking():
        for name in TO_THE_HOST:
            patch.setattr(Tensor, name, forbidden(name))
        yield


def steps(loop: Loop, first: int, count: int) -> None:
    """Train with batch-making, as :meth:`Loop.train` does between two log lines."""
    batches = loop.loader.batches(first, first + count, rendered=False)
    for step, batch in enumerate(batches, first):
        loop.step(batch, step)


def watched(loop: Loop) -> None:
    """Train two steps free, for what is made once, and two more under watch."""
    steps(loop, 0, 2)
    with no_looking():
        steps(loop, 2, 2)
    assert loop.training_step.first_bad() == -1


CIFAR_VIEWS = "discover.large={recipe: large}"
PHOTO_VIEWS = "discover.small={recipe: small-photo, size_share: 0.6}"
ASSIGNMENTS = {
    "plain": "{}",
    "queue and estimated prior": "{queue: 64, queue_start_epoch: 0, prior: estimated}",
    "given prior, relaxed": "{prior: given, prior_weights: [1, 2, 3, 2, 1], relaxation: 0.5}",
}


@pytest.mark.parametrize("assignment", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_a_discovery_step_looks_at_nothing(assignment: str) -> None:
    wanted = [f"discover.assignment={assignment}", CIFAR_VIEWS, PHOTO_VIEWS]
    more = ("discover.num_small=1", "model.overclustering=2", "discover.average=0.9")
    watched(loop_of(tiny(*wanted, *more)))


def test_a_step_of_the_release_looks_at_nothing() -> None:
    published = ("model.overclustering=2", "model.batch_norm_per_view=true", "discover.num_small=1")
    watched(loop_of(tiny(*published, "discover.optimizer.schedule=epoch")))


@pytest.mark.parametrize("name", terms_for("discover"))
def test_no_distillation_term_looks_at_anything(name: str) -> None:
    needs = TERMS.get(name).needs
    options = "{'on': labeled}" if "labels" in needs else "{}"
    config = tiny(
        f"discover.distillation=[{{name: {name}, options: {options}}}]",
        f"discover.stored_epochs={int('stored_views' in needs)}",
    )
    loop = loop_of(config)
    if config.discover.stored_epochs:
        task: Any = loop.task
        task.teacher = store_teacher(
            loop,
            task.teacher,
            task.teacher_network,
            mode=config.discover.label_mode,
            num_classes=5,
            resume=True,
        )
    watched(loop)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_pretraining_step_looks_at_nothing(optimizer: str) -> None:
    wanted = [f"pretrain.optimizer={{name: {optimizer}}}", "pretrain.batch_size=32"]
    config = load_config("digits", wanted)
    watched(pretraining_loop(config, prepare(config, CPU), CPU))


@pytest.fixture(scope="module")
def begun() -> Loop:
    """A loop that has trained one step."""
    loop = loop_of(tiny())
    steps(loop, 0, 1)
    return loop


@pytest.mark.parametrize(
    "look",
    [
        lambda loss: loss.item(),
        lambda loss: float(loss.detach()) > 0,
        lambda loss: bool(loss.detach() > 0),
        lambda loss: loss.detach().cpu(),
        lambda loss: loss.detach().tolist(),
        lambda loss: loss.detach().numpy(),
        lambda loss: torch.ones(3)[torch.ones(3) > 0],
        lambda loss: list(range(3))[torch.ones((), dtype=torch.int64)],
        lambda loss: f"{loss:.3f}",
    ],
    ids=["item", "float", "bool", "cpu", "tolist", "numpy", "mask", "index", "format"],
)
def test_every_kind_of_look_is_caught(
    begun: Loop, look: Callable[[Tensor], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test of the tests above: one look within the step makes them fail."""
    honest = begun.task.losses

    def curious(batch: Any) -> Any:
        loss, terms = honest(batch)
        look(loss)
        return loss, terms

    monkeypatch.setattr(begun.task, "losses", curious)
    with pytest.raises(LookError), no_looking():
        steps(begun, 1, 1)
