from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crkd.config.blocks import TermConfig
from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.losses.term import TERMS, DistillationInputs, DistillationTerm, TermContext, terms_for
from crkd.runs.folder import RunFolder
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from crkd.stages.run_data import RunData, prepare
from crkd.training.interruption import Interrupted
from crkd.training.loop import Loop
from crkd.training.loss_terms import Terms, supervised_weight, weight_at
from tests.support.small_runs import interrupt_at, same, small_config, with_term

pytestmark = pytest.mark.usefixtures("few_images")

CPU = torch.device("cpu")
CONTEXT = TermContext(4, 6, 6)
LIVE = [n for n in terms_for("discover") if "stored_views" not in TERMS.get(n).needs]


class Scaled(DistillationTerm):
    """The student's mean known logit times a trained factor."""

    stages: ClassVar[frozenset[str]] = frozenset({"pretrain", "discover"})
    needs: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.randn(3))

    def forward(self, inputs: DistillationInputs) -> Tensor:
        return self.factor.sum() * inputs.student.known_logits.mean()


class Greedy(Scaled):
    """The same, wanting what no discovery has."""

    needs: frozenset[str] = frozenset({"teacher_classifier"})


class NotReduced(Scaled):
    """A term that returns a value of each row."""

    def forward(self, inputs: DistillationInputs) -> Tensor:
        return self.factor.sum() * inputs.student.known_logits.mean(dim=-1)


@pytest.fixture
def registered() -> Iterator[None]:
    TERMS.names()
    own = {"scaled": Scaled, "greedy": Greedy, "not_reduced": NotReduced}
    TERMS._entries |= own
    yield
    for name in own:
        del TERMS._entries[name]


def inputs() -> DistillationInputs:
    make = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 4, generator=make)
    return DistillationInputs(
        HeadOutputs(torch.zeros(2, 5, 6), logits),
        HeadOutputs(torch.zeros(2, 5, 6), torch.randn(2, 5, 4, generator=make)),
    )


def terms(*wanted: TermConfig, seed: int = 0, epochs: int = 5) -> Terms:
    return Terms(wanted, stage="discover", context=CONTEXT, seed=seed, epochs=epochs)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (TermConfig("kd", 0.8), [0.8, 0.8, 0.8, 0.8, 0.8]),
        (TermConfig("kd"), [0.9, 0.9, 0.9, 0.9, 0.9]),
        (TermConfig("kd", 0.8, warmup_epochs=2), [0.0, 0.4, 0.8, 0.8, 0.8]),
        (TermConfig("kd", 0.8, warmup_epochs=2.5), [0.0, 0.32, 0.64, 0.8, 0.8]),
        # Halfway down a cosine is the mean of both ends.
        (TermConfig("kd", 0.8, warmup_epochs=2, end_weight=0.2), [0.0, 0.4, 0.8, 0.5, 0.2]),
        (TermConfig("kd", 0.0, end_weight=1.0), [0.0, 0.1464466, 0.5, 0.8535534, 1.0]),
        (TermConfig("kd", 0.8, warmup_epochs=4, end_weight=0.2), [0.0, 0.2, 0.4, 0.6, 0.2]),
        (TermConfig("kd", 0.8, warmup_epochs=10, end_weight=0.2), [0.0, 0.08, 0.16, 0.24, 0.32]),
    ],
)
def test_schedules_by_hand(settings: TermConfig, expected: list[float]):
    weights = [weight_at(settings, epoch, 5, stage="distill") for epoch in range(5)]
    assert weights == pytest.approx(expected)


def test_the_sum_follows_the_schedule_in_one_place_in_memory():
    made = terms(TermConfig("kd", 2.0, warmup_epochs=4), TermConfig("lwf", 3.0))
    raw = [term(inputs()) for term in made]
    place = made.weights.data_ptr()
    for epoch, weight in enumerate([0.0, 0.5, 1.0, 1.5, 2.0]):
        made.set_epoch(epoch)
        total, named = made(inputs())
        torch.testing.assert_close(total, weight * raw[0] + 3.0 * raw[1])
        torch.testing.assert_close(named["kd"], raw[0])
        torch.testing.assert_close(named["kd_weighted"], weight * raw[0])
        torch.testing.assert_close(named["lwf_weighted"], 3.0 * raw[1])
    assert made.weights.data_ptr() == place, "a recorded step reads this memory"


def test_a_term_that_is_no_scalar_is_named(registered: None):
    made = terms(TermConfig("scaled", 1.0), TermConfig("not_reduced", 1.0))
    with pytest.raises(InputError, match=r"'not_reduced' returned .* \(2, 5\); return a scalar"):
        made(inputs())


def test_a_term_that_returns_no_tensor_is_named(registered: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(NotReduced, "forward", lambda self, inputs: 0.5)
    with pytest.raises(InputError, match=r"'not_reduced' returned a float; return a scalar"):
        terms(TermConfig("not_reduced", 1.0))(inputs())


@pytest.mark.parametrize("written", ["1e-1", 0.1])
def test_options_are_read_as_the_keys_of_a_configuration(written: object):
    """YAML 1.1 reads 1e-1 as a text."""
    made = terms(TermConfig("kd", options={"temperature": written}))
    assert made.terms[0].temperature == 0.1


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("kd", "temperature", "hot"),
        ("kd", "temperature", [4]),
        ("kd", "temperature", True),
        ("fitnet", "hint_layer", 1.5),
        ("class_relation", "detach_weight", "yes"),
        ("mlld", "temperatures", "hot"),
        ("mlld", "temperatures", [2, "hot"]),
        ("vid", "student_layers", 1),
        ("vid", "student_layers", [1.5]),
    ],
)
def test_an_option_of_another_type_is_named(name: str, option: str, value: object):
    with pytest.raises(InputError, match=rf"'{name} option {option}(\[\d\])?' is .*; it must be"):
        terms(TermConfig(name, options={option: value}))


def test_a_term_may_come_twice():
    made = terms(TermConfig("kd", 1.0), TermConfig("kd", 1.0, options={"temperature": 1.0}))
    assert list(made(inputs())[1]) == ["kd", "kd_weighted", "kd'", "kd'_weighted"]


def test_each_term_draws_from_a_stream_of_its_own(registered: None):
    one = terms(TermConfig("scaled"))
    two = terms(TermConfig("scaled"), TermConfig("scaled"))
    first, second = (term.factor for term in two)
    assert torch.equal(one.terms[0].factor, first)
    assert not torch.equal(first, second)
    assert not torch.equal(terms(TermConfig("scaled"), seed=1).terms[0].factor, first)
    assert "weights" not in one.state_dict(), "they follow from the epoch"


def test_the_cross_entropy_weighs_what_the_methods_ask_for():
    assert supervised_weight(None, []) == 1.0
    assert supervised_weight(None, [TermConfig("kd")]) == 0.1
    assert supervised_weight(None, [TermConfig("simkd")]) == 0.0
    assert supervised_weight(None, [TermConfig("kd"), TermConfig("fitnet")]) == 1.0
    assert supervised_weight(0.3, [TermConfig("kd")]) == 0.3


def test_a_need_that_cannot_be_met_names_the_choices(registered: None):
    with pytest.raises(
        InputError, match=r"'greedy' needs teacher_classifier, which stage 'discover'.*one of: .*kd"
    ):
        terms(TermConfig("greedy"))
    with pytest.raises(InputError, match=r"'kd' does not apply in stage 'pretrain'.*tolerant"):
        Terms([TermConfig("kd")], stage="pretrain", context=CONTEXT, seed=0, epochs=1)


def weights(run: RunFolder) -> dict[str, Tensor]:
    return load_file(run.path / "model.safetensors")


# Two views, for the terms that compare them.
STAGE1 = ("pretrain.batch_size=16", "pretrain.num_views=2")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return pretrain(small_config(*STAGE1), tmp_path_factory.mktemp("runs") / "plain")


@pytest.mark.parametrize("name", terms_for("pretrain"))
def test_stage1_trains_with_terms(name: str, plain: RunFolder, tmp_path: Path):
    config = small_config(*with_term("pretrain", name), *STAGE1)
    run = pretrain(config, tmp_path / "run")
    assert not same(weights(run), weights(plain))
    line = json.loads((run.path / "log.jsonl").read_text().splitlines()[-1])
    term = TERMS.get(name)
    assert line[f"{name}_weighted"] == pytest.approx(term.weight * line[name], rel=1e-5)
    assert line["loss"] == pytest.approx(
        term.supervised * line["supervised"] + line[f"{name}_weighted"], rel=1e-4
    )


def test_resumed_schedules_are_bit_identical(stage1: Path, tmp_path: Path):
    entry = {"name": "vid", "weight": 0.5, "warmup_epochs": 1, "end_weight": 0.1}
    config = small_config(
        "discover.epochs=2",
        "discover.batch_size=32",
        f"discover.distillation={json.dumps([entry])}",
    )
    straight = discover(config, tmp_path / "straight", stage1)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(14, patch)
        with pytest.raises(Interrupted):
            discover(config, tmp_path / "run", stage1)
    resumed = discover(config, tmp_path / "run", stage1, resume=True)
    assert same(weights(straight), weights(resumed))
    lines = [json.loads(line) for line in (resumed.path / "log.jsonl").open()]
    found = {round(x["vid_weighted"] / x["vid"], 4) for x in lines if x["epoch"] % 1 > 0.3}
    assert found == {0.0, 0.1}


@pytest.fixture(scope="module")
def digits() -> RunData:
    return prepare(small_config(), CPU)


def trained(data: RunData, *settings: str, steps: int = 2) -> Loop:
    config = small_config("discover.batch_size=32", "discover.optimizer.lr=0.01", *settings)
    loop = discovery_loop(config, data, CPU)
    # Past the warm-up, whose first step moves nothing.
    for number, batch in enumerate(loop.loader.batches(5, 5 + steps), 5):
        loop.step(batch, number)
    return loop


@pytest.mark.parametrize("name", LIVE)
def test_a_discovery_term_trains_what_it_should_and_nothing_else(name: str, digits: RunData):
    fresh = trained(digits, *with_term("discover", name), steps=0)
    loop = trained(digits, *with_term("discover", name), steps=1)
    task = loop.task
    assert same(task.teacher_network.state_dict(), fresh.task.teacher_network.state_dict())
    before = dict(fresh.task.modules.terms.named_parameters())
    for key, parameter in task.modules.terms.named_parameters():
        assert torch.equal(parameter, before[key]) == (not parameter.requires_grad), key
    if name != "kd":
        others = [trained(digits, *with_term("discover", n)) for n in (name, "kd")]
        states = [loop.task.modules.network.state_dict() for loop in others]
        assert all(value.isfinite().all() for value in states[0].values())
        assert not same(*states)


def test_pseudo_labels_are_labels_or_the_assignments_choice(
    digits: RunData, monkeypatch: pytest.MonkeyPatch
):
    seen: list[DistillationInputs] = []
    honest = Terms.forward

    def watched(self, given):  # type: ignore[no-untyped-def]
        seen.append(given)
        return honest(self, given)

    monkeypatch.setattr(Terms, "forward", watched)
    name = next(n for n in LIVE if "labels" in TERMS.get(n).needs)
    trained(digits, *with_term("discover", name), steps=1)
    (given,) = seen
    pseudo, labeled = given.pseudo_labels, given.num_labeled
    assert pseudo.shape == (2, 2, len(given.labels))
    assert torch.equal(pseudo[..., :labeled], given.labels[:labeled].expand(2, 2, -1))
    novel = pseudo[..., labeled:]
    assert novel.min() >= 5
    assert novel.max() <= 9
    assert len(novel.unique()) == 5, "the assignment is balanced"
