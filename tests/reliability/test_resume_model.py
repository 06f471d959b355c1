"""A model of a run folder: every path is refused or ends in the bits of an uninterrupted run.

The steps of a path are kills at any write, full disks, a second process, changed data, another
configuration, damaged states, evaluation and the next stage, in any order.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from PIL import Image

from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.atomic_write import UNFINISHED
from crkd.core.errors import InputError
from crkd.core.types import Batch
from crkd.runs.folder import RunFolder
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from crkd.training.checkpoint import states
from crkd.training.loop import Loop
from tests.support.dying_writes import Killed, full_disk_at, killed_at
from tests.support.reliability import LONG, Record
from tests.support.small_runs import same

PATHS, STEPS = (300, 30) if LONG else (8, 9)
WRITES = 60
"""More than a run of this size makes."""


def images(folder: Path, classes: tuple[str, ...]) -> None:
    random = np.random.default_rng(0)
    for kind in classes:
        (folder / kind).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")


def config(place: Path, *more: str, novel: bool = False) -> Config:
    settings = [
        *("pretrain.epochs=1", "pretrain.batch_size=4", "pretrain.num_views=1"),
        *("discover.epochs=1", "discover.batch_size=8", "model.backbone=resnet8"),
        *("model.hidden=8", "model.projection=4", "model.num_heads=2"),
        *("loop.checkpoint_every=1.0e-9", "loop.log_every=1", "evaluation.kmeans_restarts=1"),
    ]
    data = {"known": str(place / "known"), "image_size": 8}
    if novel:
        data |= {"novel": str(place / "novel")}
        settings.append("discover.num_novel=2")
    return load_config("digits", [*settings, *more], {"dataset": "folder", "data": data})


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return run.read_model(run.read_info())[0]


class Model(RuleBasedStateMachine):
    """A run, and how far it is: absent, begun or complete."""

    place: Path
    straight: dict[str, torch.Tensor]
    paths: Counter[str]

    @initialize()
    def begin(self) -> None:
        self.out = self.place / "run"
        shutil.rmtree(self.out, ignore_errors=True)
        self.config = config(self.place)
        self.paths["paths"] += 1

    def described(self) -> bool:
        return (self.out / "run.json").is_file()

    def complete(self) -> bool:
        return self.described() and RunFolder(self.out).read_info().status == "complete"

    def train(self, now: Config | None = None) -> RunFolder:
        """Start or continue the run; a folder without a description is started again."""
        if not self.described():
            shutil.rmtree(self.out, ignore_errors=True)
        return pretrain(now or self.config, self.out, resume=self.described())

    def check(self, run: RunFolder) -> None:
        assert same(weights(run), self.straight), "bits of an uninterrupted run"
        assert not list(self.out.glob(f".*{UNFINISHED}"))
        assert not states(self.out)

    @precondition(lambda self: not self.complete())
    @rule(number=st.integers(1, WRITES))
    def killed(self, number: int) -> None:
        self.paths["kills"] += 1
        try:
            with killed_at(number):
                run = self.train()
        except Killed:
            return
        self.check(run)

    @precondition(lambda self: not self.complete())
    @rule(number=st.integers(1, WRITES // 3))
    def full_disk(self, number: int) -> None:
        self.paths["full disks"] += 1
        with full_disk_at(number) as full:
            try:
                self.train()
            except InputError as error:
                full.append(str(error))
        if self.complete():
            return
        assert "No space left on device" in full[0]

    @precondition(lambda self: not self.complete())
    @rule()
    def resumed(self) -> None:
        self.paths["resumes"] += 1
        self.check(self.train())

    @precondition(lambda self: not self.complete())
    @rule()
    def second_process(self) -> None:
        """While the run trains, another command wants to train it."""
        honest, refused = Loop.step, []

        def step(loop: Loop, batch: Batch, number: int) -> None:
            if not refused:
                with pytest.raises(InputError, match="in use by process") as refusal:
                    pretrain(self.config, self.out, resume=True)
                refused.append(str(refusal.value))
            honest(loop, batch, number)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Loop, "step", step)
            self.check(self.train())
        self.paths["second processes"] += len(refused)

    @precondition(lambda self: self.described() and not self.complete())
    @rule()
    def changed_data(self) -> None:
        file = self.place / "known" / "cat" / "3.png"
        content = file.read_bytes()
        Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(file)
        try:
            with pytest.raises(InputError, match="changed since the run in"):
                self.train()
        finally:
            file.write_bytes(content)
        self.paths["changed data"] += 1

    @precondition(lambda self: (self.out / "config.yaml").is_file() and not self.complete())
    @rule()
    def changed_configuration(self) -> None:
        with pytest.raises(InputError, match=r"pretrain\.batch_size"):
            self.train(config(self.place, "pretrain.batch_size=6"))
        self.paths["changed configurations"] += 1

    @precondition(lambda self: len(states(self.out)) > 1 and not self.complete())
    @rule(length=st.integers(0, 100))
    def damaged_state(self, length: int) -> None:
        """The newest one; the one before it is whole."""
        newest = states(self.out)[0]
        newest.write_bytes(newest.read_bytes()[:length])
        self.check(self.train())
        self.paths["damaged states"] += 1

    @precondition(lambda self: self.described())
    @rule()
    def evaluated(self) -> None:
        code = run_verb("evaluate", [str(self.out), "--json"])
        assert code == 0 if self.complete() else code in (0, 2)
        self.paths["evaluations"] += 1

    @precondition(lambda self: self.described() and not self.complete())
    @rule()
    def next_stage_too_early(self) -> None:
        with pytest.raises(InputError, match="needs a finished stage-1 run"):
            discover(config(self.place, novel=True), self.place / "next", self.out)
        assert not (self.place / "next").exists()
        self.paths["next stages refused"] += 1

    @precondition(lambda self: self.complete())
    @rule()
    def resumed_after_the_end(self) -> None:
        with pytest.raises(InputError, match="is complete"):
            self.train()
        self.paths["resumes refused"] += 1

    @precondition(lambda self: self.complete())
    @rule()
    def another_run(self) -> None:
        """Another run in the same place, so that a path has several ends."""
        assert same(weights(RunFolder(self.out)), self.straight)
        shutil.rmtree(self.out)
        self.paths["runs"] += 1

    def teardown(self) -> None:
        if not self.complete():
            self.check(self.train())
        # A run that was killed after its last file keeps the states that it could not delete.
        assert same(weights(RunFolder(self.out)), self.straight)


@pytest.fixture
def model(tmp_path: Path) -> type[Model]:
    images(tmp_path / "known", ("cat", "dog"))
    images(tmp_path / "novel", ("all",))
    run = pretrain(config(tmp_path), tmp_path / "straight")

    class Here(Model):
        place, straight, paths = tmp_path, weights(run), Counter()

    return Here


def test_every_path_is_refused_or_ends_in_the_same_bits(model: type[Model], record: Record) -> None:
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=PATHS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not LONG,
            # A shorter path takes minutes to find, and a path of few steps is read as it is.
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    record("model of resume", **model.paths)
    assert model.paths["kills"] > 0


def test_changed_data_is_refused_from_the_first_file_on(model: type[Model]) -> None:
    """Every moment before the first step, also before the digests of the samples are written."""
    refused = 0
    for number in range(1, 20):
        run = model()
        run.begin()
        run.killed(number)
        if states(run.out):
            break
        if run.described():
            run.changed_data()
            refused += 1
    assert refused > 3
