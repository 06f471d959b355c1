"""Encoded images of folders, tar files and tables: their names, classes and bytes."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.core.errors import InputError
from crkd.data.encoded import EncodedFolder, EncodedImages, EncodedTable, EncodedTar
from crkd.data.encoded import base as names_module
from crkd.data.encoded.base import Names
from crkd.data.encoded.listing import find_encoded
from crkd.data.sources.base import UnreadableImageError


def all_of(images: EncodedImages) -> list[tuple[str, str | None, bytes]]:
    rows = range(len(images))
    return [(images.name(row), images.class_of(row), images.read(row)) for row in rows]


def test_a_folder_has_its_outermost_folders_as_classes(tmp_path: Path):
    for name in ("b/deep/2.PNG", "a/1.jpg", "loose.webp", ".hidden/x.png", "b/.x.png", "b/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    images = EncodedFolder(tmp_path)
    assert all_of(images) == [
        ("loose.webp", None, b"loose.webp"),
        ("a/1.jpg", "a", b"a/1.jpg"),
        ("b/deep/2.PNG", "b", b"b/deep/2.PNG"),
    ]
    assert images.passed_over == {".txt": 1}


def test_a_folder_is_listed_without_a_path_object_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for number in range(50):
        (tmp_path / f"{number}.png").write_bytes(b"")
        (tmp_path / f"{number}.").write_bytes(b"")
    made, relative = [], Path.relative_to
    monkeypatch.setattr(Path, "relative_to", lambda *a: made.append(a) or relative(*a))
    images = EncodedFolder(tmp_path)
    assert len(images) == 50
    assert images.passed_over == {"no suffix": 50}
    assert len(made) == 1


def test_only_files_that_may_hold_images_are_asked_for_their_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("1.png", "2.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    hub_table(tmp_path / "t.PARQUET", [1])
    hub_table(tmp_path / ".hidden.parquet", [1])
    (tmp_path / "folder.tar").mkdir()
    asked, is_file = [], Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: asked.append(path.name) or is_file(path))
    listing = find_encoded([tmp_path])
    ids = [listing.image_id(row).split("/", 1)[1] for row in range(len(listing))]
    assert ids == ["1.png", "2.png", "t.PARQUET/0000000"]
    assert +listing.passed_over == {".txt": 1}
    assert not {"1.png", "2.png", "notes.txt", ".hidden.parquet"} & set(asked)


def test_a_listing_takes_the_names_of_an_earlier_call(tmp_path: Path):
    for name in ("a/photos/1.png", "b/photos/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(name.encode())
    places = [tmp_path / "a/photos", tmp_path / "b/photos"]
    listing, taken = find_encoded(places[1:]), {str(places[0]): "photos"}
    assert listing.image_id(0) == "photos/2.png"
    named = listing.named(taken)
    assert named.image_id(0) == find_encoded(places[1:], taken).image_id(0) == "photos-2/2.png"
    assert named.read(0) == b"b/photos/2.png"
    with pytest.raises(InputError, match="only one may be in --out"):
        listing.named({str(tmp_path): "all"})


def test_a_name_that_is_not_utf8_is_shown_with_escapes_and_read(tmp_path: Path):
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    Path(os.fsdecode(odd)).write_bytes(b"x")
    assert all_of(EncodedFolder(tmp_path)) == [("\\xff.png", None, b"x")]


def test_a_pipe_and_a_missing_file_are_refused_without_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    images = EncodedFolder(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(UnreadableImageError, match="not a regular file"):
        images.read(0)
    with pytest.raises(UnreadableImageError, match="No such file"):
        images.read(1)


def test_a_tar_file_has_classes_by_folder_or_neighbor_and_its_last_member_counts(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in (
            ("cat/1.png", b"old"),
            ("2.png", b"two"),
            ("2.cls", b"dog"),
            ("cat/1.png", b"new"),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert all_of(EncodedTar(tmp_path / "x.tar")) == [
        ("cat/1.png", "cat", b"new"),
        ("2.png", "dog", b"two"),
    ]


def test_links_within_a_tar_file_are_their_targets_and_hidden_folders_are_passed_over(
    tmp_path: Path,
):
    links = {
        "cat/soft.cls": (tarfile.LNKTYPE, "./class"),
        "cat/hard.png": (tarfile.LNKTYPE, "cat/1.png"),
        "cat/soft.png": (tarfile.SYMTYPE, "../dog/2.png"),
        "dog/2.png": (tarfile.SYMTYPE, "../.store/a"),
        "cat/out.png": (tarfile.SYMTYPE, "../../1.png"),
        "cat/round.png": (tarfile.SYMTYPE, "round.png"),
        "cat/loose.txt": (tarfile.SYMTYPE, "1.png"),
    }
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("./.cache/0.png", "./.store/a", "./cat/1.png", "./class"):
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
        for name, (kind, target) in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    images = EncodedTar(tmp_path / "x.tar")
    names = [images.name(row) for row in range(len(images))]
    assert names == ["cat/1.png", *list(links)[1:6]]
    assert [images.read(row) for row in range(4)] == [
        b"./cat/1.png", b"./cat/1.png", b"./.store/a", b"./.store/a"
    ]  # fmt: skip
    assert [images.class_of(row) for row in range(4)] == ["cat", "cat", "./class", "dog"]
    for row in (4, 5):
        with pytest.raises(UnreadableImageError, match="a link to no file of the archive"):
            images.read(row)


def hub_table(path: Path, labels: list[int], **more: list[int]) -> Path:
    rows = [{"bytes": bytes([row]), "path": None} for row in range(len(labels))]
    features = {"fine": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "img": {"_type": "Image"}}
    table = pa.table({"img": rows, "fine": labels, **more})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=2)
    return path


def test_a_table_of_the_hub_has_the_classes_of_its_metadata(tmp_path: Path):
    images = EncodedTable(hub_table(tmp_path / "t.parquet", [1, 0, -1, 1, 1], other=[0] * 5))
    assert all_of(images) == [
        (f"{row:07d}", name, bytes([row]))
        for row, name in enumerate(["dog", "cat", None, "dog", "dog"])
    ]
    # Row groups that are no longer kept are read again.
    assert images.read(0) == b"\0"


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.large_string())],
    ids=str,
)
def test_texts_of_any_kind_are_classes(tmp_path: Path, kind: pa.DataType):
    rows = [{"bytes": b"x", "path": None}] * 3
    labels = pa.array(["cat", "dog", None]).dictionary_encode().cast(kind)
    pq.write_table(pa.table({"image": rows, "label": labels}), tmp_path / "t.parquet")
    images = EncodedTable(tmp_path / "t.parquet")
    assert [images.class_of(row) for row in range(3)] == ["cat", "dog", None]


def test_a_table_without_images_is_refused(tmp_path: Path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="none is a struct with the field 'bytes'"):
        EncodedTable(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot read the Parquet file"):
        EncodedTable(tmp_path / "t.parquet")


def test_names_are_kept_across_chunks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(names_module, "_CHUNK", 4)
    names = Names()
    for number in range(10):
        names.append(str(number))
    assert [names[number] for number in range(len(names))] == [str(n) for n in range(10)]
