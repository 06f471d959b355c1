"""The file of a sweep: configurations, names, seeds, and every mistake in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crkd.commands.sweep import commands
from crkd.config.load import config_folder, load_config
from crkd.core.errors import InputError
from crkd.stages.sweep.file import MAX_FOLDER, Sweep, find_sweep, load_sweep
from tests.support import ROOT

COMMANDS = commands()
FULL = """\
config: digits
settings:
  pretrain: {epochs: 2}
  discover.epochs: 3
seeds: [4, 0]
grid:
  discover.assignment.epsilon: [0.05, 0.1]
  pretrain.batch_size: [32, 64]
methods:
  ours: {}
  no terms: {settings: {discover.distillation: []}, grid: {discover.average: [0.9]}}
  UNO: {run: baseline uno, grid: {}}
  steps: {run: increments frost, plan: 4-3-3, grid: {}}
"""


def sweep_of(text: str, folder: Path, *settings: str) -> Sweep:
    file = folder / "mine.yaml"
    file.write_text(text)
    return load_sweep(file, COMMANDS, settings)


def test_every_method_has_its_grid(tmp_path: Path) -> None:
    sweep = sweep_of(FULL, tmp_path, "discover.batch_size=48")
    assert (sweep.name, sweep.seeds) == ("mine", (4, 0))
    found = {entry.name: entry for entry in sweep.configurations}
    assert list(found) == [
        *(f"ours, epsilon={e}, batch_size={b}" for e in ("0.05", "0.1") for b in (32, 64)),
        *("no terms, average=0.9", "UNO", "steps"),
    ]
    one = found["ours, epsilon=0.1, batch_size=32"]
    settings = ["pretrain.epochs=2", "discover.epochs=3", "discover.batch_size=48"]
    more = ["discover.assignment.epsilon=0.1", "pretrain.batch_size=32"]
    assert one.config == load_config("digits", [*settings, *more])
    assert (one.run, one.plan, one.folder) == (("discover",), None, one.name.replace(", ", "-"))
    assert found["no terms, average=0.9"].config.discover.distillation == ()
    assert found["UNO"].run == ("baseline", "uno")
    assert (found["steps"].run, found["steps"].plan) == (("increments", "frost"), "4-3-3")


def test_without_methods_there_is_one(tmp_path: Path) -> None:
    sweep = sweep_of("run: baseline kmeans\nseeds: 3\n", tmp_path)
    assert [entry.name for entry in sweep.configurations] == ["kmeans"]
    assert sweep.seeds == (0, 1, 2)
    (entry,) = sweep_of("run: increments\nplan: 4-3-3\n", tmp_path).configurations
    assert entry.run == ("increments", "remember")


def test_the_base_configuration_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("discover: {epochs: 7}\n")
    (entry,) = sweep_of("config: base.yaml\n", tmp_path).configurations
    assert entry.config.discover.epochs == 7


def test_folders_have_short_and_different_names(tmp_path: Path) -> None:
    values = [[{"name": "kd", "weight": w, "options": {"temperature": 4}}] * 3 for w in (1, 2)]
    sweep = sweep_of(f"grid: {{discover.distillation: {values}}}", tmp_path)
    folders = {entry.folder for entry in sweep.configurations}
    assert len(folders) == 2
    assert all(len(folder) <= MAX_FOLDER and "/" not in folder for folder in folders)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grids: {}", "unknown configuration key 'grids' .did you mean 'grid'?"),
        ("seeds: 0", "key 'seeds' is 0; it must be a number of seeds of at least 1, or a list"),
        ("seeds: [1, 1]", r"key 'seeds' is \[1, 1\]; it must be a number of seeds"),
        ("seeds: [1, -1]", r"configuration key 'seeds\[1\]' is -1; it must be a number at least 0"),
        ("seeds: few", "key 'seeds' is 'few'; it must be"),
        ("run: predict", "key 'run' is 'predict'; it must be one of: discover, pretrain, baseline"),
        ("run: baseline", "key 'run' is 'baseline'; name one of: kmeans"),
        ("run: baseline magic", "key 'run' is 'baseline magic'; it must be one of"),
        ("methods: {a: {run: 7 7}}", "key 'methods.a.run' is '7 7'; it must be one of"),
        ("run: increments", "key 'run' is 'increments', which needs a key 'plan' such as 4-3-3"),
        ("{run: increments, plan: 4to3}", "key 'plan': is '4to3'; write class counts"),
        ("grid: {discover.epochs: 3}", "key 'grid.discover.epochs' is 3; it must be a list of"),
        ("grid: {discover.epochs: []}", "it must be a list of values such as"),
        ("grid: {discover.epochs: [x]}", "configuration key 'discover.epochs' is 'x'; it must be"),
        ("grid: {discover.epoch: [3]}", "unknown configuration key 'discover.epoch' .did you mean"),
        ("grid: {seed: [1, 2]}", "key 'grid.seed' is set by the sweep itself; list seeds under"),
        ("settings: {device: cpu}", "key 'settings.device' is set by the sweep itself; give"),
        ("settings: {'a b': 1}", "key 'settings.a b' is not a configuration key; correct it"),
        ("methods: {a: {setting: {}}}", "unknown configuration key 'methods.a.setting'"),
        ("methods: {a: 3}", "configuration key 'methods.a' must hold a block of keys"),
        ("methods: {a: {}, b: {}}", "the configurations 'a' and 'b' are equal; leave one"),
        ("grid: {discover.epochs: [3, 3]}", "are equal; leave one of them out"),
        (
            "methods: {a b: {}, a-b: {settings: {discover.epochs: 3}}}",
            "'a b' and 'a-b' would have one folder, a-b; give them names of their own",
        ),
        (
            f"grid: {{seed_: {[*range(200)]}, discover.epochs: {[*range(1, 200)]}}}",
            "key 'grid' has more than 10000 combinations; shorten it",
        ),
        ("config: nowhere", "--config 'nowhere' is neither a file nor a shipped configuration"),
        ("[1]", "must hold a block of 'key: value' lines"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        sweep_of(text, tmp_path)
    assert "mine.yaml" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("run", ["pretrain", "baseline uno", "baseline supervised"])
def test_a_command_that_does_not_run_on_vectors_is_refused(run: str, tmp_path: Path) -> None:
    vectors = "settings: {dataset: features, data.features: [known.npz, novel.npz]}\n"
    names = "discover, baseline kmeans, baseline semi-kmeans, baseline simgcd"
    for key, text in (("run", f"run: {run}"), ("methods.a.run", f"methods: {{a: {{run: {run}}}}}")):
        with pytest.raises(InputError) as refusal:
            sweep_of(vectors + text, tmp_path)
        assert f"key {key!r} is {run!r}, which a sweep does not run on" in str(refusal.value)
        assert str(refusal.value).endswith(f"feature vectors; choose one of: {names}")
    with pytest.raises(InputError, match="key 'run' is 'increments remember', which a sweep does"):
        sweep_of(f"{vectors}run: increments\nplan: 4-3-3", tmp_path)


def test_shipped_sweeps_are_found_and_valid(tmp_path: Path) -> None:
    names = [file.stem for file in (config_folder() / "sweeps").glob("*.yaml")]
    assert "digits" in names
    for name in names:
        assert load_sweep(find_sweep(name), COMMANDS).configurations
    with pytest.raises(InputError, match="sweep 'nothing' is neither a file nor a shipped sweep"):
        find_sweep("nothing")


def test_the_page_shows_the_shipped_file_and_its_record() -> None:
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    assert find_sweep("digits").read_text(encoding="utf-8") in page
    record = json.loads((ROOT / "benchmarks" / "results" / "sweep-digits.json").read_text())
    for group in record["groups"]:
        found = group["metrics"]["task_aware/train/novel"]
        value = f"{100 * found['mean']:.1f} ± {100 * found['std']:.1f}"
        assert any(group["name"] in line and value in line for line in page.splitlines())
