"""Another distribution than crkd brings a loss, a data set, a backbone and an OT backend."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

import pytest

from crkd.commands.main import main
from tests.support import ROOT

# Neither imported nor searched for by the import system: both let setuptools change how this
# process finds distutils, which later tests need to compile.
INSTALLED = {distribution.name.lower() for distribution in distributions()}
MISSING = sorted({"pip", "setuptools"} - INSTALLED)
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING} to install the example")

EXAMPLE = ROOT / "tests" / "plugin_example"
SETTINGS = (
    "--dataset=large-digits",
    f"--split={EXAMPLE / 'split.yaml'}",
    "--device=cpu",
    "--set=model.backbone=three_convolutions",
    "--set=model.hidden=16",
    "--set=model.projection=8",
    "--set=model.num_heads=2",
    "--set=pretrain.epochs=1",
    "--set=pretrain.batch_size=64",
    "--set=discover.epochs=1",
    "--set=discover.batch_size=128",
    "--set=discover.num_small=0",
    "--set=discover.distillation=[{name: cosine_features, options: {power: 2}}]",
    "--set=discover.assignment.backend=plain_sinkhorn",
    "--set=evaluation.kmeans_restarts=1",
    "--set=loop.loggers=[]",
)
# Several commands in one process: each process takes seconds to import torch.
COMMANDS = """
import contextlib, io, json, sys
from crkd.commands.main import main

answers = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(arguments)
    answers.append((code, said.getvalue()))
print("answers", json.dumps(answers))
"""
IMAGES = """
from pathlib import Path
from PIL import Image
from crkd.data.datasets.base import load_dataset

Path("images").mkdir()
test = load_dataset("large-digits").test
for index in range(4):
    Image.fromarray(test.read(index)).save(Path("images") / f"{index}.png")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the example was installed, without a network."""
    # A build leaves files next to the sources, so it gets a copy.
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "example")
    target = tmp_path_factory.mktemp("installed")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--target", str(target))
    command = [sys.executable, "-m", "pip", "install", "-q", *offline, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def python(
    *arguments: str, folders: tuple[Path, ...], cwd: Path, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a fresh Python that sees the distributions in ``folders``."""
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        input=given,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def entry(group: str, name: str) -> dict[str, str]:
    return {
        "group": f"crkd.{group}",
        "name": name,
        "distribution": "crkd-plugin-example",
        "version": "1.2",
    }


@pytest.mark.slow
def test_a_plug_in_trains_answers_and_is_missed(
    installed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def plugged(*commands: Sequence[str]) -> list[tuple[int, str]]:
        """Return exit code and messages of each command where the example is installed."""
        given = json.dumps(commands)
        done = python("-c", IMAGES + COMMANDS, folders=(installed,), cwd=tmp_path, given=given)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rsplit("answers ", 1)[1])

    def bare(*command: str) -> tuple[int, str]:
        """Return exit code and messages of a command here, where it is not installed."""
        return main(list(command)), capsys.readouterr().err

    def plugins(run: str) -> object:
        return json.loads((tmp_path / run / "run.json").read_text())["provenance"].get("plugins")

    predict = ("predict", "found", "images", "--device=cpu")
    done = plugged(
        ("pretrain", *SETTINGS, "--out=stage1"),
        ("discover", *SETTINGS, "--from=stage1", "--out=found"),
        (*predict, "--out=answers.json"),
    )
    assert [code for code, _ in done] == [0, 0, 0], done
    ours = [entry("datasets", "large-digits"), entry("backbones", "three_convolutions")]
    assert plugins("stage1") == ours
    ours += [entry("losses", "cosine_features"), entry("ot", "plain_sinkhorn")]
    assert plugins("found") == ours
    first = json.loads((tmp_path / "found" / "log.jsonl").read_text().splitlines()[0])
    assert any("cosine_features" in series for series in first), first
    assert (tmp_path / "answers.json").is_file()

    monkeypatch.chdir(tmp_path)
    done = [
        bare(*predict),
        bare("pretrain", *SETTINGS, "--out=again"),
        bare("distill", "--teacher=found", "--out=student"),
        bare("discover", *SETTINGS, "--from=stage1", "--out=again"),
    ]
    assert [code for code, _ in done] == [2] * 4, done
    missing = "of the plug-in crkd-plugin-example 1.2, which is not installed; install it to"
    made = f"found was made with the backbone 'three_convolutions' {missing} open the run\n"
    assert done[0][1] == f"crkd predict: {made}"
    assert "unknown data set 'large-digits'" in done[1][1]
    dataset = f"was made with the data set 'large-digits' {missing} use the run\n"
    assert done[2][1] == f"crkd distill: found {dataset}"
    assert done[3][1] == f"crkd discover: stage1 {dataset}"


def test_a_list_names_a_plug_in_without_importing_it(installed: Path, tmp_path: Path) -> None:
    said = python("-v", "-m", "crkd.commands.main", "distill", "--list",
                  folders=(installed,), cwd=tmp_path)  # fmt: skip
    assert said.returncode == 0, said.stderr
    (line,) = [x for x in said.stdout.splitlines() if x.startswith("cosine_features")]
    assert line.endswith("of the plug-in crkd-plugin-example 1.2")
    assert "import 'crkd.losses.distillation.kd'" in said.stderr
    assert "import 'crkd_plugin_example" not in said.stderr
