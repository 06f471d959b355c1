"""A distribution beside crkd brings a loss, a data set, a backbone and an OT backend."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

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
IMAGES = """
import sys
from pathlib import Path
from PIL import Image
from crkd.data.datasets.base import load_dataset

test = load_dataset("large-digits").test
for index in range(4):
    Image.fromarray(test.read(index)).save(Path(sys.argv[1]) / f"{index}.png")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the example was installed, without a network."""
    # A build leaves files beside the sources, so it gets a copy.
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "example")
    target = tmp_path_factory.mktemp("installed")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--target", str(target))
    command = [sys.executable, "-m", "pip", "install", "-q", *offline, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def python(*arguments: str, folders: tuple[Path, ...], cwd: Path) -> subprocess.CompletedProcess:
    """Run a fresh Python that sees the distributions in ``folders``."""
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
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
def test_a_plug_in_trains_answers_and_is_missed(installed: Path, tmp_path: Path) -> None:
    def crkd(*arguments: str, plugged: bool = True) -> subprocess.CompletedProcess[str]:
        folders = (installed,) if plugged else ()
        return python("-m", "crkd.commands.main", *arguments, folders=folders, cwd=tmp_path)

    def plugins(run: str) -> object:
        return json.loads((tmp_path / run / "run.json").read_text())["provenance"].get("plugins")

    done = crkd("pretrain", *SETTINGS, "--out=stage1")
    assert done.returncode == 0, done.stderr
    ours = [entry("datasets", "large-digits"), entry("backbones", "three_convolutions")]
    assert plugins("stage1") == ours

    done = crkd("discover", *SETTINGS, "--from=stage1", "--out=found")
    assert done.returncode == 0, done.stderr
    ours += [entry("losses", "cosine_features"), entry("ot", "plain_sinkhorn")]
    assert plugins("found") == ours
    first = json.loads((tmp_path / "found" / "log.jsonl").read_text().splitlines()[0])
    assert any("cosine_features" in series for series in first), first

    (tmp_path / "images").mkdir()
    made = python("-c", IMAGES, "images", folders=(installed,), cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    done = crkd("predict", "found", "images", "--out=answers.json", "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answers.json").is_file()

    done = crkd("predict", "found", "images", "--device=cpu", plugged=False)
    assert done.returncode == 2
    assert (
        "found was made with the backbone 'three_convolutions' of the plug-in "
        "crkd-plugin-example 1.2, which is not installed; install it to open the run"
    ) in done.stderr
    assert "Traceback" not in done.stderr

    done = crkd("pretrain", *SETTINGS, "--out=again", plugged=False)
    assert done.returncode == 2
    assert "unknown data set 'large-digits'" in done.stderr


def test_a_list_names_a_plug_in_without_importing_it(installed: Path, tmp_path: Path) -> None:
    said = python("-v", "-m", "crkd.commands.main", "distill", "--list",
                  folders=(installed,), cwd=tmp_path)  # fmt: skip
    assert said.returncode == 0, said.stderr
    (line,) = [x for x in said.stdout.splitlines() if x.startswith("cosine_features")]
    assert line.endswith("of the plug-in crkd-plugin-example 1.2")
    assert "import 'crkd.losses.distillation.kd'" in said.stderr
    assert "import 'crkd_plugin_example" not in said.stderr
