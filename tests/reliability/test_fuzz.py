"""Whatever a file holds, it is read or refused in a clear sentence: InputError and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crkd.config.load import config_folder, load_config
from crkd.data.sources.decode import decode_image
from crkd.data.sources.parquet import ParquetSource
from crkd.data.sources.tar import tar_dataset
from crkd.data.splits.class_split import load_split
from crkd.data.vectors.table import read_features
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import load_predictions, save_predictions
from crkd.evaluation.report import evaluate
from crkd.review.decisions import FORMAT, VERSION, read_decisions
from crkd.runs.atomic_files import load_tensors, save_tensors
from crkd.runs.folder import RunFolder
from tests.support.fuzzing import EXAMPLES, FUZZ, ODD, Tally, bytes_of, refused_or_read, text_of
from tests.support.untrained_runs import untrained_run

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


def test_configuration(tmp_path: Path, tally: Tally) -> None:
    file = tmp_path / "c.yaml"
    shipped = (config_folder() / "datasets" / "digits.yaml").read_text()

    @FUZZ
    @given(text_of(shipped))
    def check(text: str) -> None:
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        tally(lambda: load_config(str(file), []))

    check()


def test_setting(tally: Tally) -> None:
    keys = ("seed", "discover.epochs", "model", "discover.assignment.epsilon", "data.root", "a.b")

    @FUZZ
    @given(st.sampled_from(keys), st.one_of(st.sampled_from(ODD), st.text(max_size=20)))
    def check(key: str, value: str) -> None:
        tally(lambda: load_config("digits", [f"{key}={value}"]))

    check()


def test_split(tmp_path: Path, tally: Tally) -> None:
    file = tmp_path / "s.yaml"
    load_split("digits").save(file)

    @FUZZ
    @given(text_of(file.read_text()))
    def check(text: str) -> None:
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        tally(lambda: load_split("digits", str(file)))

    check()


def test_run_description(tmp_path: Path, tally: Tally) -> None:
    run = untrained_run(tmp_path / "run")
    file = run.path / "run.json"
    values = json.loads(file.read_text())
    odd = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below),
        max_leaves=4,
    )
    changed = st.dictionaries(st.sampled_from(sorted(values)), odd, max_size=2).map(
        lambda new: json.dumps(values | new).encode()
    )

    @FUZZ
    @given(st.one_of(changed, bytes_of(file.read_bytes())))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(RunFolder(run.path).read_info)

    check()


def test_checkpoint(tmp_path: Path, tally: Tally) -> None:
    """Damaged ones are refused for their digest; whoever forges one can compute that again."""
    file = tmp_path / "x.safetensors"
    save_tensors(file, {"a": torch.arange(6.0), "b": torch.ones(2, 3)}, {"step": 3})
    original = file.read_bytes()
    seal = original.index(b'"crkd":"') + len(b'"crkd":"')

    @FUZZ
    @given(bytes_of(original), st.booleans())
    def check(content: bytes, forged: bool) -> None:
        if forged and len(content) > seal + 64:
            zeroed = content[:seal] + b"0" * 64 + content[seal + 64 :]
            digest = hashlib.sha256(zeroed).hexdigest().encode()
            content = content[:seal] + digest + content[seal + 64 :]
        file.write_bytes(content)
        tally(lambda: load_tensors(file))
        if not forged and content != original:
            assert not refused_or_read(lambda: load_tensors(file)), "a silent wrong load"

    check()


def encoded(kind: str, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_image(kind: str, tally: Tally) -> None:
    @settings(FUZZ, max_examples=max(EXAMPLES // len(FORMATS), 100))
    @given(bytes_of(encoded(kind)))
    def check(data: bytes) -> None:
        tally(lambda: decode_image(data, "x"))

    check()


def test_parquet_of_features(tmp_path: Path, tally: Tally) -> None:
    file = tmp_path / "x.parquet"
    vectors = np.random.default_rng(0).normal(size=(4, 3))
    pq.write_table(
        pa.table({"features": list(vectors), "label": ["a", "b", "a", None], "id": list("wxyz")}),
        file,
        compression="none",
    )

    @FUZZ
    @given(bytes_of(file.read_bytes()))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(lambda: read_features(file))

    check()


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_of_features(tmp_path: Path, tally: Tally, compressed: bool) -> None:
    file = tmp_path / "x.npz"
    save = np.savez_compressed if compressed else np.savez
    vectors = np.random.default_rng(0).normal(size=(4, 3))
    save(file, features=vectors, label=["a", "b", "a", ""], id=list("wxyz"))

    @FUZZ
    @given(bytes_of(file.read_bytes()))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(lambda: read_features(file))

    check()


def test_parquet_of_images(tmp_path: Path, tally: Tally) -> None:
    file = tmp_path / "x.parquet"
    names = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
    images = [{"bytes": encoded("PNG", seed), "path": None} for seed in range(3)]
    table = pa.table({"img": images, "label": [0, 1, -1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table, file, compression="none")

    def read() -> None:
        source = ParquetSource([file], image_column="img", label_column="label")
        for index in range(min(len(source), 4)):
            source.read(index)

    @FUZZ
    @given(bytes_of(file.read_bytes()))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(read)

    check()


def test_tar_of_images(tmp_path: Path, tally: Tally) -> None:
    file = tmp_path / "x.tar"
    with tarfile.open(file, "w") as tar:
        for name in ("a/1.png", "b/2.png", "b/3.png", "b/3.cls"):
            content = encoded("PNG") if name.endswith("png") else b"a"
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

    def read() -> None:
        source = tar_dataset(file, image_size=8)[0].train
        for index in range(len(source)):
            source.read(index)

    @FUZZ
    @given(bytes_of(file.read_bytes()))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(read)

    check()


def test_predictions(tmp_path: Path, tally: Tally) -> None:
    file = tmp_path / "x.parquet"
    save_predictions(
        Predictions(
            id=list("vwxyz"),
            part=["train", "train", "test", "test", "test"],
            label=[1, 2, 0, 1, 2],
            known_head=[0] * 5,
            novel_heads=[[0, 1, 0, 0, 1]],
            joint_heads=[[1, 2, 0, 1, 2]],
            confidence=[0.5] * 5,
            class_names=["a", "b", "c"],
            num_known=1,
            num_novel=2,
            chosen_head=0,
            baselines={"kmeans": [1, 0, 0, 0, 1]},
        ),
        file,
    )

    @FUZZ
    @given(bytes_of(file.read_bytes()))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(lambda: evaluate(load_predictions(file)))

    check()


def test_decisions(tmp_path: Path, tally: Tally) -> None:
    file = tmp_path / "decisions.json"
    original = {
        "format": FORMAT,
        "version": VERSION,
        "model_sha256": "0" * 64,
        "shown_sha256": "1" * 64,
        "classes": [
            {"id": 1, "action": "accept", "name": "fox"},
            {
                "id": 2,
                "action": "split",
                "parts": [{"name": "owl", "images": ["a"]}, {"into": 0, "images": ["b"]}],
            },
            {"id": 3, "action": "merge", "into": 1},
            {"id": 4, "action": "merge", "into": 2, "part": 0},
        ],
        "images": [{"id": "c", "to": 1}, {"id": "a", "to": None}],
    }
    odd = st.one_of(
        st.sampled_from([None, True, -1, 1, 2, 4, 5, 2**70, 0.5, "a", "cat", "\u202e", [], {}]),
        st.text(max_size=5),
    )
    places = [("classes", number) for number in range(4)] + [("images", 0), ("images", 1)]
    keys = ("id", "action", "name", "names", "seeds", "into", "to", "parts", "part")

    def changed(changes: list[tuple[tuple[str, int], str, Any]], top: dict[str, Any]) -> bytes:
        decisions = json.loads(json.dumps(original)) | top
        for (part, number), key, value in changes:
            if decisions[part] and isinstance(decisions[part], list):
                decisions[part][number][key] = value
        return json.dumps(decisions).encode()

    entries = st.lists(
        st.tuples(st.sampled_from(places), st.sampled_from(keys), odd), min_size=1, max_size=2
    )
    top = st.dictionaries(st.sampled_from(sorted(original)), odd, max_size=1)
    content = st.one_of(st.builds(changed, entries, top), bytes_of(json.dumps(original).encode()))

    @FUZZ
    @given(content)
    def check(data: bytes) -> None:
        file.write_bytes(data)
        tally(
            lambda: read_decisions(
                file,
                model_sha256="0" * 64,
                shown_sha256="1" * 64,
                names=["cat", *(f"novel-{number}" for number in range(4))],
                num_known=1,
                images=["a", "b", "c"],
            )
        )

    check()
