"""Several processes of ``predict`` write the file of one process, byte by byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from crkd.inference.example import RUN as EXAMPLE
from crkd.inference.example import write_images
from crkd.inference.predict import predict
from crkd.inference.table import FORMATS, read
from tests.support.forked import in_fork, started
from tests.support.predict_runs import shared_calls
from tests.support.torchrun import torchrun

CPU = torch.device("cpu")
BROKEN = ("00.png", "01.png", "z.png")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, of which some at the begin and at the end cannot be read."""
    folder = write_images(tmp_path_factory.mktemp("images") / "digits")
    for name in BROKEN:
        (folder / name).write_text("no image")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all outputs, in which an earlier table and a killed call left files."""
    folder = tmp_path_factory.mktemp("tables")
    for name in ("left", "nothing"):
        (folder / name).mkdir()
    (folder / "left" / ".rows.csv.0002.rows").write_text("rows of another call")
    (folder / "nothing" / "rows.csv").write_text("old")
    return folder


@pytest.fixture(scope="module")
def cases(digits: Path, place: Path, photographs: Path) -> dict[str, dict[str, Any]]:
    """Inputs of predictions, by name, for three processes in one run of Python."""
    folders = [photographs.parent / name for name in ("novel", "known")]
    vectors = sorted((photographs.parent / "vectors").glob("*.parquet"))
    seven, one = sorted(digits.glob("7-*.png")), sorted(digits.glob("1-*.png"))
    found: dict[str, dict[str, Any]] = {
        f"example{suffix}": {"count": 3, "images": [digits]} for suffix in FORMATS
    }
    found["photographs"] = {"count": 2, "run": photographs, "images": folders}
    found["vectors"] = {"count": 2, "run": photographs, "images": vectors, "batch": 7}
    found["few"] = {"count": 3, "images": seven[:3], "batch": 2}
    found["left"] = {"count": 2, "images": [digits / "z.png", *one[:5]], "batch": 2}
    found["nothing"] = {"count": 2, "images": [digits / n for n in BROKEN[:2]], "batch": 1}
    for name, case in found.items():
        suffix = Path(name).suffix or ".csv"
        case.setdefault("run", EXAMPLE)
        case["out"] = place / name / f"rows{suffix}"
    return found


@pytest.fixture(scope="module")
def shared(cases: dict[str, dict[str, Any]], place: Path) -> dict[str, Any]:
    """Result of the first process of each case."""
    result: dict[str, Any] = in_fork(shared_calls, cases, place)
    return result


@pytest.mark.parametrize(
    "name", ["example.csv", "example.parquet", "example.json", "photographs", "vectors", "few"]
)
def test_the_table_is_that_of_one_process(
    shared: dict[str, Any], cases: dict[str, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    case, out = cases[name], tmp_path / f"rows{Path(name).suffix or '.csv'}"
    found = predict(case["run"], case["images"], out, device=CPU, batch_size=case.get("batch"))
    assert case["out"].read_bytes() == out.read_bytes()
    assert len(read(out)) == found.num_images > 0
    # Nothing else is left.
    ours, theirs = ({f.name for f in folder.iterdir()} for folder in (tmp_path, case["out"].parent))
    assert ours == theirs
    if found.skipped:
        skipped = "rows.skipped.csv"
        assert (tmp_path / skipped).read_text() == (case["out"].parent / skipped).read_text()
    # The first process counts the images of all.
    counts = {"code": 0, "images": found.num_images, "skipped": len(found.skipped)}
    assert shared[name] == counts


def test_rows_that_a_killed_call_left_are_not_read(shared: dict[str, Any], place: Path) -> None:
    assert shared["left"] == {"code": 0, "images": 5, "skipped": 1}
    assert len(read(place / "left" / "rows.csv")) == 5
    assert not list((place / "left").glob(".*"))


def test_nothing_is_written_where_no_process_reads_an_image(
    shared: dict[str, Any], place: Path
) -> None:
    assert shared["nothing"]["code"] == 2
    assert "none of the 2 IMAGES can be read" in shared["nothing"]["said"]
    assert (place / "nothing" / "rows.csv").read_text() == "old"
    assert [file.name for file in (place / "nothing").iterdir()] == ["rows.csv"]


def test_the_groups_of_a_parquet_file_do_not_depend_on_the_batches(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crkd.inference.table._ROW_GROUP", 100)
    out = tmp_path / "rows.parquet"
    predict(EXAMPLE, [digits], out, device=CPU, batch_size=77)
    metadata = pq.ParquetFile(out).metadata
    sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert sizes == [100, 100, 100, 59]


def test_the_launcher_of_torch_starts_the_processes(digits: Path, tmp_path: Path) -> None:
    images = [str(image) for image in sorted(digits.glob("[34]-*"))]
    one, two, said = tmp_path / "one.csv", tmp_path / "two.csv", tmp_path / "said.txt"
    words = (str(EXAMPLE), *images, "--out", str(two))
    launcher = started(torchrun, tmp_path, "predict", *words, output=said)
    launcher.join(120)
    assert launcher.exitcode == 0, said.read_text()
    assert said.read_text().count(f"{len(images)} images in") == 1, "one process speaks"
    predict(EXAMPLE, images, one, device=CPU)
    assert one.read_bytes() == two.read_bytes()
