"""The folder of a plan: another plan is refused, and the origin of the first stays."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from crkd.config.load import load_config
from crkd.core.errors import InputError
from crkd.data.splits.sessions import SessionSizes
from crkd.runs.folder import RunFolder
from crkd.stages.plan_folder import PlanFolder
from tests.support.compared_runs import changed_run

STEP = {"groups": [0.5]}


def plan_in(folder: Path, *settings: str, **changes: Any) -> PlanFolder:
    values = {"sizes": (4, 3, 3), "method": "remember", "mixed": None, **changes}
    return PlanFolder(folder, load_config("digits", settings), **values)


def test_a_plan_says_what_was_asked_for_before_its_first_stage(tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    plan_in(folder, "seed=3", mixed=SessionSizes(20, 4)).begin()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["plan"], metrics["method"], metrics["seed"]) == ([4, 3, 3], "remember", 3)
    assert (metrics["session"], metrics["steps"]) == ({"new": 20, "old": 4}, [])
    assert metrics["versions"]["torch"]
    assert RunFolder(folder).read_config().seed == 3


@pytest.mark.parametrize(
    ("settings", "changes", "difference"),
    [
        (["seed=1"], {}, "seed (0 then, 1 now)"),
        ([], {"sizes": (4, 6)}, "plan ([4, 3, 3] then, [4, 6] now)"),
        ([], {"method": "frost"}, "method ('remember' then, 'frost' now)"),
        ([], {"mixed": SessionSizes(9, 2)}, "session (None then, {'new': 9, 'old': 2} now)"),
        (["discover.epochs=7"], {}, "discover.epochs (200 then, 7 now)"),
        (["discover.optimizer.lr=0.01"], {}, "discover.optimizer.lr (0.1 then, 0.01 now)"),
    ],
)
def test_another_plan_is_refused_before_anything_is_written(
    settings: list[str], changes: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    first = plan_in(tmp_path, "discover.epochs=200", "discover.optimizer.lr=0.1")
    first.begin()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    same = ["discover.epochs=200", "discover.optimizer.lr=0.1"]
    plan_in(tmp_path, *same, "loop.log_every=3", "device=cpu").check(resume=True)
    with pytest.raises(InputError) as refusal:
        plan_in(tmp_path, *same, *settings, **changes).check(resume=True)
    assert str(refusal.value) == (
        f"--resume: the plan in {tmp_path} differs in {difference}; name another folder with "
        "--out, or give the old values"
    )
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match="holds files already; add --resume"):
        first.check(resume=False)


def test_a_rate_may_change_where_a_step_failed_by_its_loss(tmp_path: Path) -> None:
    plan_in(tmp_path).begin()
    step = RunFolder(changed_run(tmp_path / "step-1", info={"status": "failed"}))
    lower, other = ("discover.optimizer.lr=0.001", "discover.epochs=7")
    with pytest.raises(InputError, match=r"discover\.optimizer\.lr"):
        plan_in(tmp_path, lower).check(resume=True)
    (step.path / "failed-step.json").touch()
    plan_in(tmp_path, lower).check(resume=True)
    with pytest.raises(InputError, match=r"discover\.epochs"):
        plan_in(tmp_path, lower, other).check(resume=True)
    step.write_info(dataclasses.replace(step.read_info(), status="complete"))
    with pytest.raises(InputError, match=r"discover\.optimizer\.lr"):
        plan_in(tmp_path, lower).check(resume=True)


def test_the_origin_is_that_of_the_first_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/crkd", "increments", "--plan", "4-3-3"])
    plan_in(tmp_path).begin()
    monkeypatch.setattr(sys, "argv", ["crkd", "increments", "--plan", "4-3-3", "--resume"])
    again = plan_in(tmp_path)
    again.check(resume=True)
    again.begin()
    metrics = again.record({"steps": [STEP]})
    assert metrics["command"] == "crkd increments --plan 4-3-3"
    assert metrics == json.loads((tmp_path / "metrics.json").read_text())
    assert (tmp_path / "steps.png").is_file()
    # Of a plan of an earlier version on images the origin is not known.
    for name in ("command", "commit", "versions"):
        del metrics[name]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    late = plan_in(tmp_path)
    late.begin()
    assert "command" not in late.record({"steps": [STEP]})
