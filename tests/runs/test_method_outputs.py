"""Files of predictions of any method: three formats, names, joined labels, and refusals."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.errors import InputError
from crkd.runs.method_outputs import MethodOutputs, read_outputs

COLUMNS: dict[str, list[Any]] = {
    "id": ["a", "b", "c", "d"],
    "prediction": [0, 5, 1, 2],
    "label": [0, 2, -1, 1],
    "part": ["train", "test", "train", "test"],
}
FORMATS = ("csv", "npz", "parquet")


def write(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    if path.suffix == ".csv":
        lines = [",".join(columns)]
        lines += [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    else:
        pq.write_table(pa.table(dict(columns)), path)
    return path


def read(found: MethodOutputs) -> tuple[list[int], list[int], list[str], int]:
    return found.prediction.tolist(), found.label.tolist(), found.part, found.num_known


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_says_the_same(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"x.{suffix}", {**COLUMNS, "more": [1.5, 2.5, 3.5, 4.5]})
    found = read_outputs(file, 2)
    assert read(found) == (COLUMNS["prediction"], COLUMNS["label"], COLUMNS["part"], 2)
    assert found.names_parts


def test_names_need_no_list_without_known_classes(tmp_path: Path) -> None:
    columns = {"prediction": ["x", "y", "x"], "label": ["dog", "", "cat"]}
    found = read_outputs(write(tmp_path / "x.csv", columns), 0)
    assert read(found) == ([0, 1, 0], [1, -1, 0], ["train"] * 3, 0)
    columns = {"prediction": [4, 2, 4], "label": [1, -1, 0]}
    found = read_outputs(write(tmp_path / "y.csv", columns), 0)
    assert read(found) == ([4, 2, 4], [1, -1, 0], ["train"] * 3, 0)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"prediction": [0, 1], "label": ["1.0", ""]}, "label '1.0'"),
        ({"prediction": ["0.0", "1.0"], "label": [1, 0]}, "prediction '0.0'"),
    ],
)
def test_whole_numbers_with_a_decimal_point_are_named(
    tmp_path: Path, columns: dict[str, list[Any]], named: str
) -> None:
    file = write(tmp_path / "x.csv", columns)
    with pytest.raises(InputError, match=f"the {named} of .* has a decimal point; .*'Int64'"):
        read_outputs(file, 1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_part_and_id_may_be_missing(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"x.{suffix}", {"prediction": [0, 1], "label": [1, 0]})
    found = read_outputs(file, 1)
    assert found.part == ["train", "train"]
    assert not found.names_parts


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
def test_labels_of_another_file_are_joined_by_id(tmp_path: Path, suffix: str, other: str) -> None:
    file = write(tmp_path / f"x.{suffix}", {"id": [7, 8, 9], "prediction": [0, 1, 2]})
    # In another order, with more images, and ids as text.
    labels = write(tmp_path / f"y.{other}", {"id": ["9", "6", "7", "8"], "label": [3, 9, 0, -1]})
    assert read_outputs(file, 1, labels=labels).label.tolist() == [0, -1, 3]


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_of_classes(tmp_path: Path, suffix: str) -> None:
    known = tmp_path / "known.txt"
    known.write_text("dog\n\ncat\n", encoding="utf-8-sig")
    columns = {
        "prediction": ["cat", "dog", "blob", "c 2"],
        "label": ["cat", "fox", "owl", ""],
        "part": ["test"] * 4,
    }
    found = read_outputs(write(tmp_path / f"x.{suffix}", columns), known)
    assert read(found) == ([1, 0, 2, 3], [1, 2, 3, -1], ["test"] * 4, 2)
    # Whole numbers are output ids in the order of the list, also for classes with numbers.
    known.write_text("12\n7\n")
    numbers = {"prediction": [0, 1, 2, 9], "label": [12, 7, 3, -1]}
    found = read_outputs(write(tmp_path / f"n.{suffix}", numbers), known)
    assert read(found)[:2] == ([0, 1, 2, 9], [0, 1, 2, -1])


@pytest.mark.parametrize("suffix", FORMATS)
def test_clusters_may_have_any_name(tmp_path: Path, suffix: str) -> None:
    for names in (["x", "a", "x"], [-1, -5, -1], [900_000, 3, 900_000]):
        file = write(tmp_path / f"x.{suffix}", {"prediction": names, "label": [0, 1, 2]})
        assert read_outputs(file, 1, clusters_only=True).prediction.tolist() == [1, 0, 1]


def test_empty_labels_of_parquet_are_no_labels(tmp_path: Path) -> None:
    table = pa.table(
        {"prediction": pa.array([0, 1], pa.uint8()), "label": pa.array([None, 1], pa.int32())}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    assert read_outputs(tmp_path / "x.parquet", 1).label.tolist() == [-1, 1]
    names = pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), ["cat"])
    pq.write_table(pa.table({"prediction": [0, 1], "label": names}), tmp_path / "y.parquet")
    (tmp_path / "known").write_text("cat")
    assert read_outputs(tmp_path / "y.parquet", tmp_path / "known").label.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": None}, r"has no column 'prediction' \(it has id, label, part\)"),
        ({"label": None}, "has no column 'label'"),
        ({"id": ["a", "b", "b", "d"]}, "has the id 'b' twice"),
        ({"part": ["train", "test", "val", "test"]}, "has 'val' in the column 'part'"),
        ({"label": ["cat", "dog", "cat", "fox"]}, "the label 'cat' of .* give --known-classes"),
        ({"prediction": ["x", "a", "b", "c"]}, "the prediction 'x' of .* add --clusters"),
        ({"prediction": [0, -1, 2, 3]}, "the prediction -1 of .* is below 0"),
    ],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_wrong_columns(
    tmp_path: Path, suffix: str, changes: dict[str, list[Any] | None], message: str
) -> None:
    columns = {name: values for name, values in {**COLUMNS, **changes}.items() if values}
    with pytest.raises(InputError, match=message) as caught:
        read_outputs(write(tmp_path / f"x.{suffix}", columns), 2)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def npz(*members: tuple[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


def saved(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def huge_array() -> bytes:
    """A small archive whose array declares 10^12 values."""
    header = io.BytesIO()
    fields = {"descr": "<i8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(header, fields)
    return npz(("prediction.npy", header.getvalue()), ("label.npy", header.getvalue()))


def parquet(**columns: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("x.txt", b"", "has the suffix '.txt'"),
    ("x.csv", b"", "cannot be read"),
    ("x.csv", b"prediction,label\n", "has no row"),
    ("x.csv", b"prediction,label\n1\n", "cannot be read"),
    ("x.csv", b"prediction,label\n1,\xff\n", "cannot be read"),
    ("x.csv", b"prediction,label,\xff\n1,1,1\n", "cannot be read"),
    ("x.csv", b"prediction,prediction,label\n1,2,3\n", "has the column 'prediction' twice"),
    ("x.csv", b"prediction,label\n,1\n", "1 empty cells in the column 'prediction'"),
    ("x.csv", b"prediction,label\n1.0,1\n", "the prediction '1.0' of"),
    ("x.csv", b"prediction,label\n0,0.5\n", "the label '0.5' of"),
    ("x.csv", b"\x1f\x8b\x08\x00", "cannot be read|has no column"),
    ("x.npz", b"PK\x03\x04", "cannot read the file"),
    ("x.npz", huge_array(), "declares .* more than 200 times its size"),
    ("x.npz", saved(prediction=np.array([0, None]), label=[0, 1]), "pickled objects"),
    ("x.npz", saved(prediction=[0.0, 1.0], label=[0, 1]), "has float64 in the column"),
    ("x.npz", saved(prediction=[True, False], label=[0, 1]), "has bool in the column"),
    ("x.npz", saved(prediction=[b"a", b"b"], label=[0, 1]), r"has \|S1 in the column"),
    ("x.npz", saved(prediction=[[0, 1]], label=[0, 1]), r"has the shape \(1, 2\).* argmax"),
    ("x.npz", saved(prediction=[0, 1, 2], label=[0, 1]), "prediction 3, label 2"),
    ("x.npz", saved(prediction=np.array([2**63, 0], np.uint64), label=[0, 1]), "above 2"),
    ("x.parquet", b"PAR1", "cannot be read"),
    ("x.parquet", parquet(prediction=[0, None], label=[0, 1]), "1 empty cells"),
    ("x.parquet", parquet(prediction=[0.0, 1.0], label=[0, 1]), "has double in the column"),
    ("x.parquet", parquet(prediction=[[0], [1]], label=[0, 1]), "has list<.*> in the column"),
    (
        "x.parquet",
        parquet(prediction=pa.array([2**63, 0], pa.uint64()), label=[0, 1]),
        "above 2",
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "message"), BAD_FILES, ids=[f"{n}-{f[0]}" for n, f in enumerate(BAD_FILES)]
)
def test_bad_files_are_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_outputs(tmp_path / name, 1)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "folder.csv"):
        with pytest.raises(InputError, match="is not a file"):
            read_outputs(tmp_path / name, 1)


def test_many_equal_rows_in_few_bytes_are_not_read(tmp_path: Path) -> None:
    zeros = pa.chunked_array([pa.array(np.zeros(1 << 20, np.int8))] * 36)
    pq.write_table(pa.table({"prediction": zeros, "label": zeros}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"more than 200 times its size|rows; at most"):
        read_outputs(tmp_path / "x.parquet", 1)


def test_a_long_text_of_many_rows_is_one_object(tmp_path: Path) -> None:
    rows = 20_000
    names = pa.DictionaryArray.from_arrays(pa.array([0, 1] * (rows // 2)), ["x" * 1_000_000, "y"])
    pq.write_table(
        pa.table({"prediction": names, "label": [0, 1] * (rows // 2)}), tmp_path / "x.parquet"
    )
    found = read_outputs(tmp_path / "x.parquet", 1, clusters_only=True)
    assert found.prediction.tolist() == [0, 1] * (rows // 2)


def test_damaged_statistics_of_a_parquet_file_do_not_end_the_process(tmp_path: Path) -> None:
    """Bytes of the footer, flipped: pyarrow aborts where it reads the columns' metadata."""
    content = parquet(prediction=[0, 1, 2], label=["a", "b", "a"])
    (tmp_path / "known").write_text("a\n")
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for place in range(start, len(content) - 8, 2):
        damaged = bytearray(content)
        damaged[place] ^= 2
        (tmp_path / "x.parquet").write_bytes(damaged)
        with contextlib.suppress(InputError):
            read_outputs(tmp_path / "x.parquet", tmp_path / "known")


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    file = write(tmp_path / "x.csv", {"id": ["a", "b"], "prediction": [0, 1]})
    for columns, message in (
        ({"id": ["a", "c"], "label": [0, 1]}, "has no row for 1 of 2 images, such as 'b'"),
        ({"id": ["a", "a"], "label": [0, 1]}, "--labels .* has the id 'a' twice"),
        ({"label": [0, 1]}, "--labels .* has no column 'id'"),
        ({"id": ["a", "b"]}, "--labels .* has no column 'label'"),
    ):
        with pytest.raises(InputError, match=message):
            read_outputs(file, 1, labels=write(tmp_path / "y.csv", columns))
    labels = write(tmp_path / "y.csv", {"id": ["a", "b"], "label": [0, 1]})
    both = write(tmp_path / "z.csv", {"id": ["a", "b"], "prediction": [0, 1], "label": [0, 1]})
    with pytest.raises(InputError, match="has labels; leave out --labels"):
        read_outputs(both, 1, labels=labels)
    nameless = write(tmp_path / "z.csv", {"prediction": [0, 1]})
    with pytest.raises(InputError, match=r"--predictions .* has no column 'id'"):
        read_outputs(nameless, 1, labels=labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names 0 classes"),
        (b"a\na\n", "names 'a' twice"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
        (b"\n".join(b"%d" % number for number in range(10_000)), "names 10000 classes"),
        (b"x\n" * (3 << 20), "has more than 4 MiB"),
        (b"other\n", "no label of .* is one of the classes of --known-classes, such as 'other'"),
    ],
)
def test_lists_of_known_classes(tmp_path: Path, content: bytes, message: str) -> None:
    file = write(tmp_path / "x.csv", {"prediction": [0, 1], "label": ["cat", "dog"]})
    (tmp_path / "known.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_outputs(file, tmp_path / "known.txt")
    with pytest.raises(InputError, match=r"--known-classes .* is not a file"):
        read_outputs(file, tmp_path / "none.txt")


def test_too_many_clusters(tmp_path: Path) -> None:
    names = list(range(10_001))
    file = write(tmp_path / "x.npz", {"prediction": names, "label": [0] * len(names)})
    with pytest.raises(InputError, match="has 10,001 clusters; at most 10,000"):
        read_outputs(file, 1, clusters_only=True)
