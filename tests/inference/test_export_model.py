from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.data.sources.decode import decode_image
from crkd.data.storage.resize import fit_square
from crkd.evaluation.calibration import Calibration
from crkd.inference import export_model
from crkd.inference.export_model import Deployed, export, traced
from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.runs.calibration import write_calibration
from crkd.runs.folder import RunFolder
from tests.support.untrained_runs import SIZE, save_noise, untrained_run

STORED = 20
"""Larger than the network's 16 px, so that the crop inside the program matters."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = untrained_run(tmp_path_factory.mktemp("runs") / "run", "data.stored_share=1.25")
    write_calibration(run, Calibration(1.5, 90, 1.0, 0.9, 0.2, 0.1))
    return run


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    """Both formats are made of the same program, whose tracing takes longest."""
    programs: list[ExportedProgram] = []

    def once(deployed: Deployed) -> ExportedProgram:
        if not programs:
            programs.append(traced(deployed))
        return programs[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_model, "traced", once)
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(7):
        save_noise(folder / f"{number}.png", number, side=24 + number)
    return folder


def expected(run: RunFolder, images: Path) -> NDArray[np.float64]:
    """Probabilities as ``predict`` gives them, ``(N, C)``."""
    out = run.path / "rows.json"
    predict(run.path, [images], out, device=torch.device("cpu"))
    names = [entry.name for entry in run.read_info().classes]
    return np.array([[row.top[name] for name in names] for row in read(out)])


def squares(images: Path) -> NDArray[np.uint8]:
    files = sorted(images.iterdir())
    return np.stack([fit_square(decode_image(file, "x"), STORED) for file in files])


def test_torch_program_gives_what_predict_gives(run: RunFolder, images: Path) -> None:
    file, difference = export(run.path, "torch")
    assert file == run.path / "model.pt2"
    assert difference is not None
    assert difference <= 1e-4
    program = torch.export.load(file).module()
    truth, pixels = expected(run, images), torch.from_numpy(squares(images))
    logits, probabilities, features = program(pixels)
    np.testing.assert_allclose(probabilities.detach(), truth, atol=2e-6)
    np.testing.assert_allclose((logits / 1.5).softmax(-1).detach(), truth, atol=2e-6)
    assert features.shape == (7, 64)
    assert program(pixels[:1])[0].shape == (1, 5), "any size of batch"


def test_onnx_program_gives_what_predict_gives(
    run: RunFolder, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    file = tmp_path / "out" / "program.onnx"
    command = [str(run.path), "--format", "onnx", "--out", str(file)]
    assert run_verb("export", command) == 0
    assert "outputs equal those of the run within" in capsys.readouterr().out
    assert {f.name for f in file.parent.iterdir()} == {"program.onnx", "program.onnx.json"}
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    assert given.shape == ["batch", 3, STORED, STORED]
    assert [o.name for o in session.get_outputs()] == ["logits", "probabilities", "features"]
    pixels, truth = squares(images), expected(run, images)
    for count in (1, 7):
        found = session.run(["probabilities"], {"images": pixels[:count]})[0]
        np.testing.assert_allclose(found, truth[:count], atol=1e-4)
    description = json.loads((file.parent / "program.onnx.json").read_text())
    assert description["difference"] <= 1e-4
    assert [entry["name"] for entry in description["classes"]][:2] == ["cat", "dog"]
    assert description["input"]["shape"] == ["batch", 3, STORED, STORED]
    assert description["inside"]["center_crop"] == SIZE
    assert description["inside"]["temperature"] == 1.5
    assert description["calibrated"] == {"known": True, "novel": False}
    inside = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(inside["crkd"]) == {k: v for k, v in description.items() if k != "difference"}


def test_a_program_that_differs_is_not_written(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_model, "traced", lambda deployed: deployed)
    monkeypatch.setattr(export_model, "_torch", lambda program: b"")
    for difference in (2e-4, float("nan")):
        monkeypatch.setattr(export_model, "_compare", lambda *_, d=difference: d)
        with pytest.raises(InputError, match="nothing was written"):
            export(run.path, "torch", tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_value_that_is_not_finite_is_a_difference(place: int) -> None:
    expected = tuple(torch.zeros(4, 2) for _ in range(3))
    found = [np.zeros((4, 2), np.float32) for _ in range(3)]
    assert export_model._difference(found, expected) == 0
    found[place][1, 1] = np.nan
    assert np.isnan(export_model._difference(found, expected))


def test_a_missing_package_is_named(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_model, "traced", lambda deployed: deployed)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="pip install onnx"):
        export(run.path, "onnx", tmp_path / "x.onnx")


def test_without_onnxruntime_the_file_is_written_and_says_so(
    run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(export_model, "traced", lambda deployed: deployed)
    monkeypatch.setattr(export_model, "_onnx", lambda program, described: b"program")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    file = tmp_path / "x.onnx"
    assert run_verb("export", [str(run.path), "--format", "onnx", "--out", str(file)]) == 0
    assert "not compared with the run" in capsys.readouterr().out
    assert json.loads((tmp_path / "x.onnx.json").read_text())["difference"] is None


class CountsWithLen(torch.nn.Module):
    """As a backbone of a plug-in may do."""

    stored = 4

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().view(len(images), -1)


def test_len_of_a_tensor_does_not_fix_the_batch_size() -> None:
    program = traced(cast(Deployed, CountsWithLen())).module()
    assert program(torch.zeros(5, 3, 4, 4, dtype=torch.uint8)).shape == (5, 48)
