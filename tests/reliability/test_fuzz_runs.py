"""The small files of a run folder and the tables of others: read, or refused by InputError."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.runs.calibration import read_calibration
from crkd.runs.disputed import read_probabilities
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.runs.lock import LOCK, FolderLock
from crkd.runs.method_outputs import read_class_list, read_outputs
from crkd.runs.outliers import read_outliers
from crkd.runs.plugins import recorded_plugins
from crkd.runs.reviewed_labels import read_labels
from crkd.runs.sample_digests import SampleDigests
from crkd.runs.stability import read_stability
from tests.data.vectors.test_damaged_statistics import embedding
from tests.data.vectors.test_embedding_file import written
from tests.runs.kept.vectors import write_vectors
from tests.support.altered_runs import BY_NAME, ODD, altered
from tests.support.fuzzing import EXAMPLES, FUZZ, Tally, bytes_of, text_of
from tests.support.reliability import LONG

KEPT = Path(__file__).parents[1] / "runs" / "kept" / "schema-3"
NETWORKS = settings(FUZZ, max_examples=EXAMPLES if LONG else 100)
"""A network is built for each input that is read."""
HUGE = st.integers(10**400, 10**401)
VALUES = st.recursive(
    st.one_of(st.sampled_from(ODD), st.floats(), st.text(max_size=4), HUGE),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below),
    max_leaves=4,
)


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> RunFolder:
    """A copy of a kept run."""
    return RunFolder(shutil.copytree(KEPT / request.param, tmp_path / "run"))


of_vectors = pytest.mark.parametrize("run", ["vectors"], indirect=True)


def json_of(original: Any) -> st.SearchStrategy[bytes]:
    """A JSON text with entries replaced, and altered bytes of the original."""
    content = json.dumps(original).encode()
    if isinstance(original, dict):
        entries = st.dictionaries(st.sampled_from(sorted(original)), VALUES, max_size=2)
        changed = entries.map(lambda new: json.dumps(original | new).encode())
    else:
        rows = st.tuples(st.integers(0, len(original) - 1), st.integers(0, 2), VALUES)
        changed = rows.map(lambda change: json.dumps(_with(original, *change)).encode())
    return st.one_of(changed, bytes_of(content))


def _with(rows: list[list[Any]], row: int, place: int, value: Any) -> list[list[Any]]:
    changed = [list(entries) for entries in rows]
    changed[row][place] = value
    return changed


@of_vectors
def test_run_folder_as_a_whole(run: RunFolder, tally: Tally) -> None:
    """The description and the network that is built from it."""
    original = json.loads((run.path / "run.json").read_text())

    @NETWORKS
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        (run.path / "run.json").write_text(altered(original, seed)[1])
        tally(lambda: open_run(run.path, torch.device("cpu")))

    check()


@of_vectors
def test_names_of_plug_ins(run: RunFolder, tally: Tally) -> None:
    original = json.loads((run.path / "run.json").read_text())
    plugin = {"group": "crkd.backbones", "name": "x", "distribution": "d", "version": "1"}
    changes = st.dictionaries(st.sampled_from([*plugin, "more"]), VALUES, max_size=2)
    names = st.one_of(VALUES, st.sampled_from(BY_NAME["backbone"]), st.text(max_size=8))

    @NETWORKS
    @given(st.lists(st.one_of(changes.map(lambda new: plugin | new), VALUES), max_size=2), names)
    def check(plugins: list[Any], name: Any) -> None:
        values = json.loads(json.dumps(original))
        values["provenance"]["plugins"] = plugins
        if len(plugins) == 1:
            values["architecture"]["backbone"] = name
        (run.path / "run.json").write_text(json.dumps(values))

        def opened() -> None:
            recorded_plugins(run.read_info())
            open_run(run.path, torch.device("cpu"))

        tally(opened)

    check()


@pytest.mark.parametrize(
    ("run", "name", "read_it"),
    [
        ("discovered", "calibration.json", read_calibration),
        ("vectors", "outliers.json", read_outliers),
        ("vectors", "stability.json", read_stability),
        ("reviewed", "reviewed-labels.json", read_labels),
    ],
    indirect=["run"],
)
def test_small_files(
    run: RunFolder, name: str, read_it: Callable[[RunFolder], object], tally: Tally
) -> None:
    file = run.path / name
    original = json.loads(file.read_text())

    @FUZZ
    @given(json_of(original[:4] if isinstance(original, list) else original))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(lambda: read_it(run))

    check()


@of_vectors
def test_disputed_images(run: RunFolder, tally: Tally) -> None:
    file = run.path / "disputed.csv"
    head = file.read_text().splitlines()[0]

    @FUZZ
    @given(text_of(f'{head}\na,novel-0,0.5,known-1,0.25\n\'=b,"novel,1",0.5,known-1,0.25'))
    def check(text: str) -> None:
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        tally(lambda: read_probabilities(run))

    check()


def test_lock_file(tmp_path: Path, tally: Tally) -> None:
    """Whatever an owner wrote, a held lock is refused in a sentence and a free one is taken."""
    file = tmp_path / LOCK

    def take(held: bool) -> None:
        with file.open("r+b") as other:
            if held:
                fcntl.flock(other, fcntl.LOCK_EX)
            FolderLock(tmp_path, "the run").release()

    @FUZZ
    @given(bytes_of(b"12345 a-host\n"), st.booleans())
    def check(content: bytes, held: bool) -> None:
        file.write_bytes(content)
        tally(lambda: take(held))

    check()


def test_digests_of_samples(tmp_path: Path, tally: Tally) -> None:
    digests = np.arange(64, dtype=np.uint8).reshape(4, 16)
    SampleDigests(list("abcd"), digests).write(tmp_path)
    file = tmp_path / "samples.parquet"

    @FUZZ
    @given(bytes_of(file.read_bytes()))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(lambda: SampleDigests.read(tmp_path))

    check()


def test_embedded_images(tmp_path: Path, tally: Tally) -> None:
    file = written(tmp_path / "v.parquet")

    @FUZZ
    @given(bytes_of(file.read_bytes()))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(lambda: embedding(file))

    check()


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_predictions_that_predict_wrote(tmp_path: Path, tally: Tally, kind: str) -> None:
    write_vectors(tmp_path)
    file = tmp_path / f"x.{kind}"
    run = shutil.copytree(KEPT / "vectors", tmp_path / "run")
    predict(run, [tmp_path / "novel.npz"], file, device=torch.device("cpu"), unsure=0.5)
    if kind != "parquet":
        lines = file.read_text().splitlines()[:6]
        sound = "\n".join(lines).removesuffix(",") + ("\n]}" if kind == "json" else "")
        texts = text_of(sound).map(lambda text: text.encode("utf-8", "surrogatepass"))

    @FUZZ
    @given(bytes_of(file.read_bytes()) if kind == "parquet" else texts)
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(lambda: read(file))

    check()


@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
def test_predictions_of_other_methods(tmp_path: Path, tally: Tally, kind: str) -> None:
    file = tmp_path / f"x.{kind}"
    columns = {"id": list("abcd"), "prediction": [0, 1, 2, 2], "label": [0, 1, -1, 2]}
    if kind == "csv":
        rows = [*columns, *zip(*columns.values(), strict=True)]
        head, body = ",".join(columns), rows[3:]
        file.write_text("\n".join([head, *(",".join(map(str, row)) for row in body)]))
    elif kind == "npz":
        np.savez(file, **{name: np.array(values) for name, values in columns.items()})
    else:
        pq.write_table(pa.table(columns), file, compression="none")

    @FUZZ
    @given(bytes_of(file.read_bytes()), st.integers(-1, 4))
    def check(content: bytes, num_known: int) -> None:
        file.write_bytes(content)
        tally(lambda: read_outputs(file, num_known))

    check()


def test_lists_of_classes(tmp_path: Path, tally: Tally) -> None:
    file = tmp_path / "known.txt"

    @FUZZ
    @given(
        st.one_of(
            text_of("cat\ndog\nfox").map(lambda t: t.encode("utf-8", "surrogatepass")),
            st.binary(max_size=40),
        )
    )
    def check(content: bytes) -> None:
        file.write_bytes(content)
        tally(lambda: read_class_list(file))

    check()
