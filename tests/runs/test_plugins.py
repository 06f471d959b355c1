"""Plug-ins in the description of a run, and folders that are refused before foreign code runs."""

from __future__ import annotations

import dataclasses
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.core.registry import Plugin
from crkd.data.datasets.base import DATASETS
from crkd.losses.term import TERMS
from crkd.models.backbones.base import BACKBONES
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.load import check_dataset, open_run
from crkd.runs.plugins import recorded_plugins
from crkd.stages.discover.run import discover
from crkd.training.interruption import Interrupted
from crkd.training.plugins import plugins_of
from tests.support.small_runs import interrupt_at, small_config

CPU = torch.device("cpu")


def offer(patch: pytest.MonkeyPatch, registry, name: str, value: str, version: str = "1.2") -> None:
    """Have a distribution called things offer an entry."""
    registry.names()
    owner = SimpleNamespace(name="things", version=version)
    patch.setitem(registry._points, name, [EntryPoint(name, value, registry.group)._for(owner)])
    patch.setattr(registry, "_from_plugins", {})


@pytest.fixture
def run(stage1: Path, tmp_path: Path) -> RunFolder:
    """A finished stage-1 run that the test may change."""
    return RunFolder(shutil.copytree(stage1, tmp_path / "run"))


def mentioned(run: RunFolder, **changes: str) -> None:
    """Add a plug-in to the description of a run."""
    info = run.read_info()
    entry = {"group": "crkd.backbones", "name": "mine", "distribution": "things", "version": "1.2"}
    info.provenance["plugins"] = [entry | changes]
    assert info.architecture is not None
    info.architecture["backbone"] = "mine"
    run.write_info(info)


def test_a_run_of_a_missing_plug_in_names_it(run: RunFolder) -> None:
    assert "plugins" not in run.read_info().provenance
    mentioned(run)
    with pytest.raises(InputError, match=r"'mine' of the plug-in things 1\.2, which is not"):
        open_run(run.path, CPU)


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({"distribution": "others"}, "of the plug-in others 1.2"),
        ({"group": "crkd.losses"}, "without a plug-in"),
    ],
)
def test_a_name_that_another_plug_in_brings_now_is_not_imported(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], made: str
) -> None:
    offer(monkeypatch, BACKBONES, "mine", "a_module_that_is_not_there:mine")
    mentioned(run, **changes)
    with pytest.raises(InputError, match=rf"'mine' {made}, but here the plug-in things 1\.2"):
        open_run(run.path, CPU)


def test_a_damaged_record_names_no_plug_in(stage1: Path) -> None:
    info = RunFolder(stage1).read_info()
    sound = {"group": "g", "name": "n", "distribution": "d", "version": "1"}
    for record in (None, 3, "text", [3], [{}], [sound | {"more": "x"}], [sound | {"name": 1}]):
        info.provenance = {"plugins": record}
        assert recorded_plugins(info) == []
    info.provenance = {"plugins": [3, sound]}
    assert recorded_plugins(info) == [Plugin("g", "n", "d", "1")]
    info.provenance = []  # type: ignore[assignment]
    assert recorded_plugins(info) == []


def test_the_data_set_is_asked_for_where_it_is_read(stage1: Path) -> None:
    opened = open_run(stage1, CPU)
    check_dataset(opened)
    entry = {"group": "crkd.datasets", "name": "digits", "distribution": "things", "version": "3"}
    opened.info.provenance["plugins"] = [entry]
    with pytest.raises(InputError, match="the data set 'digits' of the plug-in things 3"):
        check_dataset(opened)


MISSING = {
    "data set": ("crkd.datasets", "distill", ()),
    "distillation loss": ("crkd.losses", "distill", ("distill.method=[{name: absent}]",)),
    "distillation loss by its flag": ("crkd.losses", "distill", ()),
    "log": ("crkd.loggers", "distill", ("loop.loggers=[absent]",)),
    "backbone": ("crkd.backbones", "distill", ("distill.student=absent",)),
    "data set to discover in": ("crkd.datasets", "discover", ()),
    "OT backend": ("crkd.ot", "discover", ("discover.assignment.backend=absent",)),
    "distillation loss of stage 2": (
        "crkd.losses",
        "discover",
        ("discover.distillation=[{name: absent}]",),
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_command_that_goes_on_from_a_run_names_what_it_was_made_with(
    what: str, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group, verb, settings = MISSING[what]
    info = run.read_info()
    entry = {"group": group, "name": "absent", "distribution": "things", "version": "1.2"}
    info.provenance["plugins"] = [entry]
    run.write_info(info)
    flags = ["--teacher" if verb == "distill" else "--from", str(run.path), "--out"]
    flags.append(str(tmp_path / "out"))
    if what == "distillation loss by its flag":
        flags += ["--method", "absent"]
    if verb == "distill":
        # The teacher's own configuration asks for the name.
        dataset = {"dataset": "absent"} if what == "data set" else {}
        run.write_config(dataclasses.replace(small_config(*settings), **dataset))
    elif what == "data set to discover in":
        flags += ["--dataset", "absent"]
    else:
        flags += [f"--set={setting}" for setting in settings]
    assert run_verb(verb, flags) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"crkd {verb}: {run.path} was made with the ")
    assert said.count("\n") == 1
    assert said.endswith(
        " 'absent' of the plug-in things 1.2, which is not installed; install it to use the run\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_run_names_the_plug_ins_of_its_own_stage_alone(
    stage1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        offer(monkeypatch, TERMS, name, "a_module_that_is_not_there:term")
    offer(monkeypatch, DATASETS, "elsewhere", "a_module_that_is_not_there:build")
    config = small_config(
        "pretrain.distillation=[{name: one}]",
        "discover.distillation=[{name: two}, {name: two}, {name: kd}]",
        "distill.method=[{name: three}]",
    )
    info: RunInfo = RunFolder(stage1).read_info()
    wanted = {"supervised": "one", "discovered": "two", "distilled": "three", "baseline": None}
    for kind, name in wanted.items():
        info.kind = kind
        named = [plugin.name for plugin in plugins_of(config, info)]
        assert named == ([name] if name else [])


def test_a_resumed_run_says_that_a_plug_in_changed(
    tmp_path: Path, stage1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("discover.distillation=[{name: mine, weight: 0.1}]")
    value = "crkd.losses.distillation.features:Features"
    offer(monkeypatch, TERMS, "mine", value)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            discover(config, tmp_path / "run", stage1)
    offer(monkeypatch, TERMS, "mine", value, version="1.3")
    info = discover(config, tmp_path / "run", stage1, resume=True).read_info()
    assert "resumed with things 1.3 after things 1.2" in info.notes
    assert recorded_plugins(info) == [Plugin("crkd.losses", "mine", "things", "1.3")]
