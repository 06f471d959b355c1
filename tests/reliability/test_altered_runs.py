"""An untrusted run folder: every verb reads it, or refuses it in one sentence."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.inference import export_model
from crkd.inference.export_model import Deployed
from crkd.stages.vectors.run import discover_vectors
from tests.support.altered_runs import altered
from tests.support.reliability import LONG, Record

KEPT = Path(__file__).parents[1] / "runs" / "kept" / "schema-3"
FOLDERS = 3_000 if LONG else 60
REFUSED = (("review", "pretrained"), ("review", "vectors"), ("export", "vectors"))
VERBS = ("predict", "review", "export", "evaluate", "compare")
FOUND = (227, 808)
"""Seeds whose refusals were pages long once."""
LIMIT = 5.0
"""Seconds of the process for one verb, in the long form."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A copy of the kept runs, and a discovery on vectors."""
    place = tmp_path_factory.mktemp("runs")
    for name in ("pretrained", "discovered"):
        shutil.copytree(KEPT / name, place / name)
    random = np.random.default_rng(0)
    for number, name in enumerate(("known", "novel")):
        classes = np.arange(3).repeat(12) + 3 * number
        centers = 5 * np.random.default_rng(1).normal(size=(6, 8))
        rows = centers[classes] + random.normal(size=(36, 8))
        np.savez(place / f"{name}.npz", features=rows, label=[f"c{c}" for c in classes])
    files = [str(place / "known.npz"), str(place / "novel.npz")]
    config = load_config(
        None, ["vectors.method=kmeans"], {"dataset": "features", "data": {"features": files}}
    )
    discover_vectors(config, place / "vectors")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(place / "image.png")
    return {name: place / name for name in ("pretrained", "discovered", "vectors")}


def arguments(verb: str, run: Path) -> list[str]:
    """A short use of a verb on a run."""
    place = run.parent
    image = place / ("novel.npz" if run.name == "vectors" else "image.png")
    other = "pretrained" if run.name == "discovered" else "discovered"
    return {
        "predict": [str(run), str(image), "--out", str(place / "x.csv"), "--device", "cpu"],
        "review": [str(run), "--out", str(place / "x.html")],
        "export": [str(run), "--format", "torch", "--out", str(place / "x.pt2")],
        "evaluate": [str(run), "--json"],
        "compare": [str(run), str(KEPT / other)],
    }[verb]


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short form runs the network of an export once; its tracing is not what is altered."""
    if LONG:
        return

    def run_once(content: bytes, deployed: Deployed) -> float:
        deployed(export_model._images(deployed, 2))
        return 0.0

    monkeypatch.setattr(export_model, "traced", lambda deployed: deployed)
    monkeypatch.setattr(export_model, "_torch", lambda program: b"program")
    monkeypatch.setattr(export_model, "_compare", run_once)


@pytest.mark.usefixtures("untraced")
def test_altered_run_folders_are_read_or_refused_in_one_sentence(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], record: Record
) -> None:
    originals = {name: json.loads((run / "run.json").read_text()) for name, run in runs.items()}
    codes: Counter[int] = Counter()
    faults, slowest = [], 0.0
    uses = [(seed, (VERBS[seed // len(runs) % len(VERBS)],)) for seed in range(FOLDERS)]
    uses += [(seed, ("predict",)) for seed in FOUND]
    if LONG:
        uses = [(seed, VERBS) for seed in range(FOLDERS)]
    for seed, verbs in uses:
        name = list(runs)[seed % len(runs)]
        file = runs[name] / "run.json"
        change, content = altered(originals[name], seed)
        file.write_text(content)
        for verb in verbs:
            began = time.process_time()
            try:
                code = run_verb(verb, arguments(verb, runs[name]))
            except BaseException as error:  # noqa: BLE001 - a traceback is what is looked for
                code = -1
                faults.append(f"{seed} {verb} {name}, {change}: {error!r:.300}")
            seconds = time.process_time() - began
            slowest = max(slowest, seconds)
            codes[code] += 1
            err = capsys.readouterr().err
            if code == 2 and (f"crkd {verb}: " not in err or len(err.splitlines()[-1]) > 1500):
                faults.append(f"{seed} {verb} {name}, {change}: no sentence: {err[-300:]}")
            if code not in (0, 2, -1):
                faults.append(f"{seed} {verb} {name}, {change}: code {code}")
            if LONG and seconds > LIMIT:
                faults.append(f"{seed} {verb} {name}, {change}: {seconds:.1f} s")
    for name, values in originals.items():
        (runs[name] / "run.json").write_text(json.dumps(values))
    record(
        "altered run folders",
        folders=len(uses),
        read=codes[0],
        refused=codes[2],
        tracebacks=codes[-1],
        slowest_seconds=round(slowest, 2),
    )
    assert not faults, "\n".join(faults[:40])
    assert codes[0] > 0
    assert codes[2] > FOLDERS // 3


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("verb", VERBS)
def test_the_runs_that_are_altered_are_themselves_read(
    runs: dict[str, Path], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, run in runs.items():
        # Only images of discovered classes are reviewed, and vectors have no network of images.
        refused = (verb, name) in REFUSED
        code = run_verb(verb, arguments(verb, run))
        assert code == (2 if refused else 0), (name, capsys.readouterr().err)


def test_a_network_without_novel_classes_is_exported(runs: dict[str, Path]) -> None:
    assert run_verb("export", arguments("export", runs["pretrained"])) == 0
    program = torch.export.load(runs["pretrained"].parent / "x.pt2").module()
    assert program(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))[0].shape[0] == 2
