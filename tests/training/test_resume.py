"""Interrupted runs continue to the same bits, or are refused."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.types import Batch
from crkd.data.datasets import digits
from crkd.runs.folder import RunFolder
from crkd.runs.lock import LOCK
from crkd.stages.discover.parent import open_parent
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from crkd.stages.run_data import RunData
from crkd.training.checkpoint import states
from crkd.training.interruption import Interrupted
from crkd.training.loop import Loop, NonFiniteLossError
from tests.support import small_runs
from tests.support.small_runs import interrupt_at
from tests.support.watched_steps import first_steps, spoil_losses

pytestmark = pytest.mark.usefixtures("few_images")

CPU = torch.device("cpu")


def small_config(*settings: str, **flags: object) -> Config:
    few = ("pretrain.batch_size=16", "discover.batch_size=32")
    return small_runs.small_config(*few, *settings, **flags)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A stage 1 that nothing interrupted."""
    return pretrain(small_config(), tmp_path_factory.mktemp("runs") / "pretrained")


@pytest.fixture(scope="module")
def discovered(stage1: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A discovery that nothing interrupted."""
    return discover(small_config(), tmp_path_factory.mktemp("runs") / "discovered", stage1)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def test_resume_identical_pretrain(tmp_path: Path, pretrained: RunFolder) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(Interrupted, match=r"stopped after step 5 of 11.*--resume"):
            pretrain(small_config(), tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_info().status == "interrupted"
    resumed = pretrain(small_config(), tmp_path / "run", resume=True)
    straight, again = weights(pretrained.path), weights(resumed.path)
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    assert resumed.read_info().status == "complete"
    assert not states(resumed.path)


def test_resume_with_muon_is_identical(tmp_path: Path) -> None:
    config = small_config("pretrain.optimizer.name=muon", "model.backbone=fast_resnet")
    straight = weights(pretrain(config, tmp_path / "straight").path)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(Interrupted):
            pretrain(config, tmp_path / "run")
    again = weights(pretrain(config, tmp_path / "run", resume=True).path)
    assert all(torch.equal(straight[name], again[name]) for name in straight)


def test_muon_for_a_backbone_without_convolutions_is_refused_before_the_folder_is_made(
    tmp_path: Path,
) -> None:
    config = small_config("pretrain.optimizer.name=muon", "model.backbone=timm:test_vit")
    with pytest.raises(InputError, match="no convolution of the backbone is trained"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("default_hangup")
def test_a_closed_terminal_saves_the_state(tmp_path: Path, pretrained: RunFolder) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(4, patch, signal.SIGHUP)
        with pytest.raises(Interrupted, match=r"stopped after step 5 of 11"):
            pretrain(small_config(), tmp_path / "run")
    assert len(states(tmp_path / "run")) == 1
    resumed = pretrain(small_config(), tmp_path / "run", resume=True)
    straight, again = weights(pretrained.path), weights(resumed.path)
    assert all(torch.equal(straight[name], again[name]) for name in straight)


def test_resume_identical_discover(tmp_path: Path, stage1: Path, discovered: RunFolder) -> None:
    straight = discovered
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            discover(small_config(), tmp_path / "run", stage1)
    resumed = discover(small_config(), tmp_path / "run", stage1, resume=True)
    a, b = weights(straight.path), weights(resumed.path)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert straight.read_info().chosen_head == resumed.read_info().chosen_head
    assert straight.read_metrics() == resumed.read_metrics()


def test_resume_identical_with_an_average_and_a_queue_that_starts_late(
    tmp_path: Path, stage1: Path
) -> None:
    config = small_config(
        "discover.epochs=2",
        "discover.average=0.9",
        "discover.assignment={queue: 64, queue_start_epoch: 1, prior: estimated}",
    )
    straight = discover(config, tmp_path / "straight", stage1)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(14, patch)
        with pytest.raises(Interrupted):
            discover(config, tmp_path / "run", stage1)
    resumed = discover(config, tmp_path / "run", stage1, resume=True)
    a, b = weights(straight.path), weights(resumed.path)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_resume_with_changed_files_of_a_named_data_set(
    tmp_path: Path, pretrained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            pretrain(small_config(), tmp_path / "run")
    begun = RunFolder(tmp_path / "run").read_info().provenance
    assert begun["data_sha256"] == pretrained.read_info().provenance["data_sha256"]
    assert begun["processes"] == 1
    images, labels = digits._digits()
    images = images.copy()
    images[-1, 3, 3] += 1
    monkeypatch.setattr(digits, "_digits", lambda: (images, labels))
    with pytest.raises(InputError, match=r"1 with other content \('(training|test) images'\)"):
        pretrain(small_config(), tmp_path / "run", resume=True)
    # As after a kill before the samples were listed.
    listed = tmp_path / "run" / "samples.parquet"
    content = listed.read_bytes()
    listed.unlink()
    with pytest.raises(InputError, match="the data has changed since the run in"):
        pretrain(small_config(), tmp_path / "run", resume=True)
    listed.write_bytes(content)
    monkeypatch.undo()
    monkeypatch.setattr("crkd.training.session.processes", lambda: (0, 2))
    resumed = pretrain(small_config(), tmp_path / "run", resume=True)
    assert "resumed with 2 processes after 1" in resumed.read_info().notes
    assert not (resumed.path / "samples.parquet").exists()


def test_a_stage_1_of_another_seed_is_noted(tmp_path: Path, stage1: Path) -> None:
    same, other = (
        discover(small_config(seed=seed), tmp_path / str(seed), stage1).read_info()
        for seed in (0, 7)
    )
    assert same.parent is not None
    assert other.parent is not None
    assert same.parent["seed"] == other.parent["seed"] == 0
    note = "stage 1 has seed 0, this run has seed 7"
    assert note in other.notes
    assert note not in same.notes


def test_resume_with_another_configuration_names_the_difference(
    tmp_path: Path, stage1: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            discover(small_config(), tmp_path / "run", stage1)
    changed = small_config("discover.optimizer.lr=0.05")
    with pytest.raises(InputError, match=r"discover.optimizer.lr \(0.1 then, 0.05 now\)"):
        discover(changed, tmp_path / "run", stage1, resume=True)


def test_resume_with_another_configuration_before_the_first_state_too(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        spoil_losses(patch, at=0)
        with pytest.raises(NonFiniteLossError):
            pretrain(small_config(), tmp_path / "run")
    assert not states(tmp_path / "run")
    with pytest.raises(InputError, match=r"pretrain.batch_size \(16 then, 32 now\)"):
        pretrain(small_config("pretrain.batch_size=32"), tmp_path / "run", resume=True)


def test_a_resumed_run_keeps_its_estimated_number_of_classes(
    tmp_path: Path, stage1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the features can differ in their last bits, and with them the estimate."""
    config = small_config("discover.num_novel=auto")
    straight = discover(config, tmp_path / "straight", stage1)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            discover(config, tmp_path / "run", stage1)
    described = (tmp_path / "run" / "run.json").read_bytes()

    def other(*_: object, **__: object) -> tuple[int, str]:
        return straight.read_info().num_novel + 1, "another estimate"

    monkeypatch.setattr("crkd.stages.discover.parent._counted", other)
    # Another number all the same is refused, and nothing is overwritten.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "crkd.stages.discover.run.open_parent",
            lambda *args, num_novel, **named: open_parent(*args, **named),
        )
        with pytest.raises(InputError, match=r"has \d+ classes, and this command has \d+"):
            discover(config, tmp_path / "run", stage1, resume=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == described
    resumed = discover(config, tmp_path / "run", stage1, resume=True)
    a, b = weights(straight.path), weights(resumed.path)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert resumed.read_info().notes == straight.read_info().notes


def test_resume_with_another_teacher_is_refused(tmp_path: Path, stage1: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            discover(small_config(), tmp_path / "run", stage1)
    parent = RunFolder(tmp_path / "run").read_info().parent
    assert parent == {
        "path": str(stage1),
        "model_sha256": hashlib.sha256((stage1 / "model.safetensors").read_bytes()).hexdigest(),
        "seed": 0,
        "seconds": RunFolder(stage1).read_info().seconds,
    }
    other = pretrain(small_config(seed=1), tmp_path / "other")
    with pytest.raises(InputError, match=r"began with another teacher, .* than .*other"):
        discover(small_config(), tmp_path / "run", other.path, resume=True)


def test_a_run_that_another_process_trains_is_not_resumed(
    tmp_path: Path, stage1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first resume tries to resume the run once more while it trains."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            discover(small_config(), tmp_path / "run", stage1)
    assert not (tmp_path / "run" / LOCK).exists()
    honest, refusals = Loop.step, []

    def step(self: Loop, batch: Batch, number: int) -> None:
        if not refusals:
            description = (tmp_path / "run" / "run.json").read_bytes()
            with pytest.raises(InputError) as refusal:
                discover(small_config(), tmp_path / "run", stage1, resume=True)
            refusals.append(str(refusal.value))
            assert (tmp_path / "run" / "run.json").read_bytes() == description
        honest(self, batch, number)

    monkeypatch.setattr(Loop, "step", step)
    resumed = discover(small_config(), tmp_path / "run", stage1, resume=True)
    assert f"in use by process {os.getpid()} on " in refusals[0]
    assert resumed.read_info().status == "complete"
    assert not (resumed.path / LOCK).exists()


def test_so_many_states_are_kept(tmp_path: Path) -> None:
    config = small_config("loop.checkpoint_every=1.0e-9", "loop.keep_states=3")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(6, patch)
        with pytest.raises(Interrupted):
            pretrain(config, tmp_path / "run")
    assert [path.name for path in states(tmp_path / "run")] == [
        f"state-{step:09d}.safetensors" for step in (7, 6, 5)
    ]


def test_resume_identical_from_the_state_before_a_damaged_one(
    tmp_path: Path, pretrained: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config("loop.checkpoint_every=1.0e-9")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(6, patch)
        with pytest.raises(Interrupted):
            pretrain(config, tmp_path / "run")
    newest = states(tmp_path / "run")[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.MonkeyPatch.context() as patch:
        begun = first_steps(patch)
        resumed = pretrain(config, tmp_path / "run", resume=True)
    assert begun[0] == 6
    assert f"{newest} is damaged" in capsys.readouterr().err
    straight, again = weights(pretrained.path), weights(resumed.path)
    assert all(torch.equal(straight[name], again[name]) for name in straight)


def test_resume_without_a_state_is_a_clear_error(tmp_path: Path, stage1: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        pretrain(small_config(), tmp_path / "nothing", resume=True)
    with pytest.raises(InputError, match="complete"):
        pretrain(small_config(), stage1, resume=True)


def test_a_taken_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="holds files already"):
        pretrain(small_config(), tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_ends_in_its_evaluation_is_trained(
    tmp_path: Path, stage1: Path, discovered: RunFolder, error: type[BaseException]
) -> None:
    """After the last step nothing is trained again: --resume computes the results alone."""
    straight = discovered
    expected = Interrupted if error is KeyboardInterrupt else error
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunData, "evaluated_outputs", lambda *_: (_ for _ in ()).throw(error()))
        with pytest.raises(expected):
            discover(small_config(), tmp_path / "run", stage1)
    steps = Loop.step
    with pytest.MonkeyPatch.context() as patch:
        trained: list[int] = []
        patch.setattr(
            Loop, "step", lambda self, batch, step: trained.append(step) or steps(self, batch, step)
        )
        resumed = discover(small_config(), tmp_path / "run", stage1, resume=True)
    assert trained == []
    a, b = weights(straight.path), weights(resumed.path)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert straight.read_metrics() == resumed.read_metrics()
    assert straight.read_info().chosen_head == resumed.read_info().chosen_head


def test_a_signal_in_the_last_step_stops_before_the_results(
    tmp_path: Path, pretrained: RunFolder
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(10, patch)
        with pytest.raises(Interrupted, match=r"stopped after step 11 of 11.*--resume"):
            pretrain(small_config(), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()
    resumed = pretrain(small_config(), tmp_path / "run", resume=True)
    straight, again = weights(pretrained.path), weights(resumed.path)
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    assert resumed.read_metrics() == pretrained.read_metrics()


def test_results_are_written_before_the_baselines(
    tmp_path: Path, stage1: Path, discovered: RunFolder
) -> None:
    straight = discovered
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "crkd.stages.results.kmeans_columns",
            lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()),
        )
        with pytest.raises(Interrupted, match="--resume"):
            discover(small_config(), tmp_path / "run", stage1)
    run = RunFolder(tmp_path / "run")
    ours, complete = run.read_metrics(), straight.read_metrics()
    assert ours.pop("baselines") == {}
    assert set(complete.pop("baselines")) == {"kmeans_pixels", "kmeans_features"}
    assert ours == complete
    resumed = discover(small_config(), run.path, stage1, resume=True)
    assert resumed.read_metrics() == straight.read_metrics()
    assert resumed.read_info().status == "complete"
