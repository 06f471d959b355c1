"""Parquet files whose path is not UTF-8 are read and written like others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crkd.data.encoded.listing import find_encoded
from crkd.data.encoded.table import EncodedTable
from crkd.data.sources.parquet import ParquetSource
from crkd.data.vectors import repeated_texts
from crkd.data.vectors import table as vector_table
from crkd.data.vectors.embedding_file import EmbeddingFile, EmbeddingInfo, writing_embeddings
from crkd.data.vectors.selected_rows import write_rows
from crkd.data.vectors.table import read_features
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import load_predictions, save_predictions
from crkd.inference.table import PredictedImage, read, writing
from crkd.runs.method_outputs import read_outputs
from crkd.runs.sample_digests import SampleDigests

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)
COLUMNS: dict[str, dict[str, Any]] = {
    "images": {
        "image": pa.array(
            [{"bytes": bytes([n]), "path": None} for n in range(4)],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "label": [0, 1, 0, 1],
    },
    "vectors": {"f": list(ROWS), "label": ["a", "b", "a", "b"], "id": list("wxyz")},
    "outputs": {"prediction": [0, 1, 2, 2], "label": [0, 1, 2, 3]},
}


def table(path: Path, kind: str) -> Path:
    """Write a table of images, vectors or outputs; Python takes any path."""
    content = pa.BufferOutputStream()
    names = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    found = pa.table(COLUMNS[kind])
    if kind == "images":
        found = found.replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(found, content)
    path.write_bytes(content.getvalue().to_pybytes())
    return path


def images(path: Path) -> object:
    found = EncodedTable(table(path, "images"))
    return [(found.class_of(row), found.read(row)) for row in range(4)]


def images_of_a_folder(path: Path) -> object:
    listing = find_encoded([table(path, "images").parent])
    return [listing.read(row) for row in range(4)]


def image_source(path: Path) -> object:
    source = ParquetSource(
        [table(path, "images")], image_column="image", label_column="label", part="x"
    )
    return source.labels.tolist(), source.content_digest()


def vectors(path: Path) -> object:
    found = read_features(table(path, "vectors"))
    return np.asarray(found.features).tolist(), found.labels, list(found.ids)


def selected_vectors(path: Path) -> object:
    found = read_features(table(path, "vectors"))
    return write_rows(found, np.array([0, 3]), path.parent, path.stem).read_bytes()


def embeddings(path: Path) -> object:
    digests = np.arange(128, dtype=np.uint8).reshape(4, 32)
    with writing_embeddings(path, EmbeddingInfo("0.1", "lite0", "ab", 2, {}, {})) as writer:
        writer.write(list("wxyz"), ["a", None, "b", None], digests, ROWS)
    with EmbeddingFile(path) as found:
        assert np.array_equal(found.digests(), digests)
        return [found.row(row).image_id for row in range(4)], path.read_bytes()


def predictions(path: Path) -> object:
    empty = np.zeros((0, 4), np.int32)
    ids, parts = np.array(list("wxyz"), object), np.array(["test"] * 4, object)
    labels, shares = np.zeros(4, np.int32), np.ones(4, np.float32)
    save_predictions(
        Predictions(ids, parts, labels, labels, empty, empty, shares, ["a", "b"], 2, 0, None), path
    )
    return list(load_predictions(path).id), path.read_bytes()


def predicted_images(path: Path) -> object:
    row = PredictedImage("a.png", "known", 0, "a", 0.5, True, False, None, {"a": 0.5}, {"a": 1.0})
    with writing(path, {}) as write:
        write([row])
    return read(path), path.read_bytes()


def outputs_of_a_method(path: Path) -> object:
    found = read_outputs(table(path, "outputs"), 2)
    return found.prediction.tolist(), found.label.tolist()


def digests_of_samples(path: Path) -> object:
    path.mkdir()
    SampleDigests(["a"], np.zeros((1, 16), np.uint8)).write(path)
    found = SampleDigests.read(path)
    return found is not None and found.sha256()


@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
@pytest.mark.parametrize(
    "work",
    [
        images,
        images_of_a_folder,
        image_source,
        vectors,
        selected_vectors,
        embeddings,
        predictions,
        predicted_images,
        outputs_of_a_method,
        digests_of_samples,
    ],
)
def test_a_path_that_is_not_utf8_changes_nothing(
    work: Callable[[Path], object], many: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr(vector_table, "IN_MEMORY", 0)
        monkeypatch.setattr(repeated_texts, "SMALL", 0)
    found = []
    for name in (b"cafe", b"caf\xe9"):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        folder.mkdir()
        found.append(work(Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".parquet"))))
    assert found[0] == found[1]


def test_ids_made_of_a_name_that_is_not_utf8_are_valid_unicode(tmp_path: Path) -> None:
    for suffix in (".npy", ".npz"):
        odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + suffix.encode()))
        with odd.open("wb") as file:
            np.save(file, ROWS) if suffix == ".npy" else np.savez(file, features=ROWS)
        assert read_features(odd).ids[0] == "caf\\xe9/00000"
