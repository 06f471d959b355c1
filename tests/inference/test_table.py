from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.data.vectors import declared_size, repeated_texts
from crkd.inference.table import COLUMNS, FORMATS, PredictedImage, read, writing
from crkd.runs.csv_cells import escape_formula, unescape_formula

SHARES = st.floats(0, 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=1", "'", 'a,"b"', "a\nb", "<b>"]
)
ROWS = st.builds(
    PredictedImage,
    path=TEXTS,
    kind=st.sampled_from(["known", "novel"]),
    class_id=st.integers(0, 10_000),
    class_name=TEXTS,
    confidence=SHARES,
    calibrated=st.booleans(),
    unsure=st.booleans(),
    head_agreement=st.none() | SHARES,
    top=st.dictionaries(TEXTS, SHARES, max_size=2),
    nearest_known=st.dictionaries(TEXTS, SHARES, max_size=1),
    outlier=st.none() | st.booleans(),
)
ROW = PredictedImage("a.png", "known", 0, "cat", 0.5, True, False, None, {"cat": 0.5}, {"cat": 1.0})


@pytest.mark.parametrize("suffix", FORMATS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(ROWS, max_size=3))
def test_every_format_gives_back_every_row(
    suffix: str, tmp_path: Path, rows: list[PredictedImage]
) -> None:
    file = tmp_path / f"rows{suffix}"
    with writing(file, {"unsure_below": 0.5}) as write:
        write(rows[:2])
        write(rows[2:])
    assert read(file) == rows


@given(TEXTS)
def test_no_cell_begins_like_a_formula(text: str) -> None:
    cell = escape_formula(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert unescape_formula(cell) == text


def test_csv_cells_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    evil = PredictedImage(
        "=cmd|' /C calc'!A0.png", "novel", 3, "@evil", 0.25, False, True, 1.0, {"=x": 0.25}, {}
    )
    with writing(file, {}) as write:
        write([evil])
    with file.open(newline="", encoding="utf-8") as text:
        header, cells = csv.reader(text)
    assert tuple(header) == COLUMNS
    assert cells[:4] == ["'=cmd|' /C calc'!A0.png", "novel", "3", "'@evil"]
    assert file.read_bytes().count(b"\r\n") == 2, "RFC 4180"
    assert cells[4:] == ["0.25", "false", "true", "1.0", '{"=x": 0.25}', "{}", ""]


def test_the_header_is_in_json_and_parquet(tmp_path: Path) -> None:
    header = {"unsure_below": 0.5, "temperature": None}
    for suffix in (".json", ".parquet"):
        with writing(tmp_path / f"rows{suffix}", header) as write:
            write([ROW])
    content = json.loads((tmp_path / "rows.json").read_text())
    assert {name: content[name] for name in header} == header
    metadata = pq.read_schema(tmp_path / "rows.parquet").metadata
    assert json.loads(metadata[b"crkd"]) == header


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows{suffix}"
    file.write_text("old")

    def fails() -> None:
        with writing(file, {}) as write:
            write([ROW])
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        fails()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"--out .* cannot be written"),
        writing(tmp_path / "file" / "rows.csv", {}),
    ):
        pass


def test_the_newest_predictions_of_a_watch_are_read(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    rows = [ROW, dataclasses.replace(ROW, path="b.png"), dataclasses.replace(ROW, class_id=1)]
    lines = [
        json.dumps({"file": row.path, "digest": str(n), **dataclasses.asdict(row)})
        for n, row in enumerate(rows)
    ]
    # A watch writes the last line at this moment.
    content = "\n".join(lines) + "\n" + lines[0][:40]
    file.write_text(content)
    assert read(file) == [rows[2], rows[1]]
    assert file.read_text() == content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"id,label\n1,2\n"),
        ("rows.csv", b"\xff\xfe"),
        ("rows.csv", b"path,kind,class_name,class_id\na,known,cat," + b"[" * 100_000),
        ("rows.json", b"[]"),
        ("rows.json", b'{"images": [{"path": 3}]}'),
        ("rows.parquet", b"PAR1"),
        ("rows.jsonl", b'{"path": "a.png"}\n'),
        ("rows.jsonl", b"[]\n"),
        ("missing.json", None),
        ("rows.txt", b""),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read(tmp_path / name)


def test_a_class_name_repeated_beyond_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet stores the name once, and declares it once."""
    file = tmp_path / "rows.parquet"
    with writing(file, {}) as write:
        write([dataclasses.replace(ROW, class_name="a" * 5000)] * 1000)
    assert len(read(file)) == 1000
    monkeypatch.setattr(repeated_texts, "SMALL", 1000)
    monkeypatch.setattr(declared_size, "free_host_bytes", lambda: 1_900_000)
    with pytest.raises(InputError, match=r"holds more than 1\.8 MiB of values"):
        read(file)
