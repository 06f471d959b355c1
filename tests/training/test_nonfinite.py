"""A loss or a weight that is not finite: nothing bad is saved, and a lower rate continues."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.runs.atomic_files import read_json
from crkd.runs.folder import RunFolder
from crkd.stages.pretrain.run import SupervisedTraining, pretrain
from crkd.stages.pretrain.task import SupervisedTask
from crkd.stages.run_data import prepare
from crkd.training.checkpoint import states
from crkd.training.interruption import Interrupted
from crkd.training.loop import NonFiniteLossError
from tests.support import small_runs
from tests.support.small_runs import interrupt_at
from tests.support.watched_steps import first_steps, spoil_losses

pytestmark = pytest.mark.usefixtures("few_images")

CPU = torch.device("cpu")


def small_config(*settings: str, **flags: object) -> Config:
    few = ("pretrain.batch_size=16", "discover.batch_size=32")
    return small_runs.small_config(*few, *settings, **flags)


def test_a_loss_that_is_not_finite_skips_its_update_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoil_losses(monkeypatch, at=1)
    with pytest.raises(
        NonFiniteLossError, match=r"at step 1 of stage pretrain \(terms: loss; .*failed-step"
    ):
        pretrain(small_config("loop.log_every=4"), tmp_path / "run")
    torch.testing.assert_close(seen[2], seen[1], msg="the update of the bad step must not happen")
    assert RunFolder(tmp_path / "run").read_info().status == "failed"
    kept = read_json(tmp_path / "run" / "failed-step.json")
    assert (kept["step"], kept["terms"], kept["stage"]) == (1, ["loss"], "pretrain")
    # The batch that failed can be made again from what was kept.
    config = small_config()
    training = SupervisedTraining(config, prepare(config, CPU), CPU)
    batch = next(training._loader.batches(kept["step"], kept["step"] + 1))
    assert batch.sample_id.tolist() == kept["sample_id"]
    assert [view["not_finite"] for view in kept["views"]] == [0] * len(batch.views)
    assert kept["views"][0]["max"] == float(batch.views[0].max())


def test_a_lower_rate_continues_from_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = ("loop.checkpoint_every=1.0e-9", "loop.log_every=1")
    spoil_losses(monkeypatch, at=6, above_rate=0.05)
    with pytest.raises(NonFiniteLossError, match=r"at step 6 .* last good state .*--resume"):
        pretrain(small_config(*saved), tmp_path / "run")
    good = states(tmp_path / "run")[0]
    assert good.name == "state-000000006.safetensors"
    assert all(tensor.isfinite().all() for tensor in load_file(good).values())
    # Nothing but a remedy may change, and without one the same step fails again.
    with pytest.raises(InputError, match=r"pretrain.batch_size \(16 then, 32 now\)"):
        pretrain(small_config(*saved, "pretrain.batch_size=32"), tmp_path / "run", resume=True)
    with pytest.raises(NonFiniteLossError, match="at step 6"):
        pretrain(small_config(*saved), tmp_path / "run", resume=True)
    lower = small_config(*saved, "pretrain.optimizer.lr=0.05")
    with pytest.MonkeyPatch.context() as patch:
        steps = first_steps(patch)
        interrupt_at(8, patch)
        with pytest.raises(Interrupted):
            pretrain(lower, tmp_path / "run", resume=True)
    assert steps[0] == 6
    # From here on the lower rate is the run's own.
    with pytest.raises(InputError, match=r"pretrain.optimizer.lr \(0.05 then, 0.1 now\)"):
        pretrain(small_config(*saved), tmp_path / "run", resume=True)
    run = pretrain(lower, tmp_path / "run", resume=True)
    assert run.read_config().pretrain.optimizer.lr == 0.05
    assert "with pretrain.optimizer.lr (0.1 then, 0.05 now)" in run.read_info().notes[-1]
    assert not states(run.path)


def test_a_state_is_not_saved_on_top_of_a_bad_loss_when_a_signal_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_losses(monkeypatch, at=3)
    interrupt_at(4, monkeypatch)
    with pytest.raises(NonFiniteLossError, match="at step 3"):
        pretrain(small_config("loop.log_every=100"), tmp_path / "run")
    assert not states(tmp_path / "run")


def test_a_state_with_weights_that_are_not_finite_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss may have a gradient that is not: the root of zero has none."""
    honest, steps = SupervisedTask.losses, []

    def spoiled(self, batch):  # type: ignore[no-untyped-def]
        loss, terms = honest(self, batch)
        steps.append(len(steps))
        weights = next(self.modules.network.parameters())
        return (loss + (weights - weights).sum().sqrt() if steps[-1] == 5 else loss), terms

    monkeypatch.setattr(SupervisedTask, "losses", spoiled)
    saved = ("loop.checkpoint_every=1.0e-9", "loop.log_every=1")
    with pytest.raises(
        NonFiniteLossError, match=r"weights of .* after step 6 .* last good state .*--resume"
    ):
        pretrain(small_config(*saved), tmp_path / "run")
    good = states(tmp_path / "run")[0]
    assert good.name == "state-000000005.safetensors"
    assert all(tensor.isfinite().all() for tensor in load_file(good).values())
    kept = read_json(tmp_path / "run" / "failed-step.json")
    assert kept["step"] == 5
    assert kept["terms"][0].startswith("weights of ")
    # The remedy of the message is accepted.
    monkeypatch.setattr(SupervisedTask, "losses", honest)
    lower = small_config(*saved, "pretrain.optimizer.lr=0.05")
    run = pretrain(lower, tmp_path / "run", resume=True)
    assert "with pretrain.optimizer.lr (0.1 then, 0.05 now)" in run.read_info().notes[-1]
