from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests_engine_support import interrupt_at, small_config

from crkd.core.errors import InputError
from crkd.engine.discover import discover
from crkd.engine.files import read_json
from crkd.engine.loop import Interrupted, NonFiniteLossError
from crkd.engine.pretrain import SupervisedTraining, pretrain
from crkd.engine.run import RunFolder
from crkd.engine.setup import prepare

CPU = torch.device("cpu")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def test_resume_identical_pretrain(tmp_path: Path, stage1: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(Interrupted, match=r"stopped after step 5 of 11.*--resume"):
            pretrain(small_config(), tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_info().status == "interrupted"
    resumed = pretrain(small_config(), tmp_path / "run", resume=True)
    straight, again = weights(stage1), weights(resumed.path)
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    assert resumed.read_info().status == "complete"
    assert not (resumed.path / "state.safetensors").exists()


def test_resume_identical_discover(tmp_path: Path, stage1: Path) -> None:
    straight = discover(small_config(), tmp_path / "straight", stage1)
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


def test_resume_with_another_configuration_names_the_difference(
    tmp_path: Path, stage1: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            discover(small_config(), tmp_path / "run", stage1)
    changed = small_config("discover.optimiser.lr=0.05")
    with pytest.raises(InputError, match=r"discover.optimiser.lr \(0.1 then, 0.05 now\)"):
        discover(changed, tmp_path / "run", stage1, resume=True)


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


def test_a_loss_that_is_not_finite_skips_its_update_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crkd.engine.supervised_task import SupervisedTask

    honest = SupervisedTask.losses
    seen: list[torch.Tensor] = []

    def spoiled(self, batch):  # type: ignore[no-untyped-def]
        seen.append(self.modules.network.known_head.prototypes.detach().clone())
        loss, terms = honest(self, batch)
        return (loss * float("nan") if len(seen) == 2 else loss), terms

    monkeypatch.setattr(SupervisedTask, "losses", spoiled)
    with pytest.raises(NonFiniteLossError, match=r"at step 1 \(terms: loss; .*failed-step"):
        pretrain(small_config("loop.log_every=4"), tmp_path / "run")
    torch.testing.assert_close(seen[2], seen[1], msg="the update of the bad step must not happen")
    assert RunFolder(tmp_path / "run").read_info().status == "failed"
    kept = read_json(tmp_path / "run" / "failed-step.json")
    assert (kept["step"], kept["terms"], kept["stage"]) == (1, ["loss"], "pretrain")
    # The batch that failed can be made again from what was kept.
    config = small_config()
    training = SupervisedTraining(config, prepare(config, CPU), CPU)
    batch = next(training._feed.batches(kept["step"], kept["step"] + 1))
    assert batch.sample_id.tolist() == kept["sample_id"]
    assert [view["not_finite"] for view in kept["views"]] == [0] * len(batch.views)
    assert kept["views"][0]["max"] == float(batch.views[0].max())
