"""What a run says of its plug-ins, and which folders are refused before foreign code runs."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.registry import Plugin
from crkd.data.datasets.base import DATASETS
from crkd.losses.term import TERMS
from crkd.models.backbones.base import BACKBONES
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.load import check_dataset, open_run
from crkd.runs.plugins import recorded_plugins
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
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


def mentioned(folder: Path, **changes: str) -> None:
    """Add a plug-in to the description of a run."""
    run = RunFolder(folder)
    info = run.read_info()
    entry = {"group": "crkd.backbones", "name": "mine", "distribution": "things", "version": "1.2"}
    info.provenance["plugins"] = [entry | changes]
    assert info.architecture is not None
    info.architecture["backbone"] = "mine"
    run.write_info(info)


def test_a_run_of_a_missing_plug_in_names_it(tmp_path: Path) -> None:
    run = pretrain(small_config(), tmp_path / "run")
    assert "plugins" not in run.read_info().provenance
    mentioned(run.path)
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], made: str
) -> None:
    run = pretrain(small_config(), tmp_path / "run")
    offer(monkeypatch, BACKBONES, "mine", "a_module_that_is_not_there:mine")
    mentioned(run.path, **changes)
    with pytest.raises(InputError, match=rf"'mine' {made}, but here the plug-in things 1\.2"):
        open_run(run.path, CPU)


def test_a_damaged_record_names_no_plug_in(tmp_path: Path) -> None:
    info = RunFolder(pretrain(small_config(), tmp_path / "run").path).read_info()
    sound = {"group": "g", "name": "n", "distribution": "d", "version": "1"}
    for record in (None, 3, "text", [3], [{}], [sound | {"more": "x"}], [sound | {"name": 1}]):
        info.provenance = {"plugins": record}
        assert recorded_plugins(info) == []
    info.provenance = {"plugins": [3, sound]}
    assert recorded_plugins(info) == [Plugin("g", "n", "d", "1")]
    info.provenance = []  # type: ignore[assignment]
    assert recorded_plugins(info) == []


def test_the_data_set_is_asked_for_where_it_is_read(tmp_path: Path) -> None:
    run = pretrain(small_config(), tmp_path / "run")
    opened = open_run(run.path, CPU)
    check_dataset(opened)
    entry = {"group": "crkd.datasets", "name": "digits", "distribution": "things", "version": "3"}
    opened.info.provenance["plugins"] = [entry]
    with pytest.raises(InputError, match="the data set 'digits' of the plug-in things 3"):
        check_dataset(opened)


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
