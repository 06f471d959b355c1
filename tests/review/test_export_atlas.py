"""The table for Embedding Atlas: classes, map and neighbors as the review page has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from crkd.commands.main import main, run_verb
from crkd.review import export_atlas as atlas
from crkd.review.run_outputs import gather


def test_rows_are_the_images_with_their_neighbors(
    discovered: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "an atlas.parquet"
    assert run_verb("export", [str(discovered[0]), "--format", "atlas", "--out", str(out)]) == 0
    assert f"embedding-atlas '{out}' --x x --y y" in capsys.readouterr().out
    rows = pq.read_table(out).to_pylist()
    evidence = gather(discovered[0], torch.device("cpu"))
    assert [row["id"] for row in rows] == evidence.images.ids
    assert [row["class"] for row in rows] == [evidence.names[c] for c in evidence.assigned]
    assert all(Path(row["path"]).is_file() for row in rows)
    assert {row["decided_by"] for row in rows} == {"model"}
    assert all(-1 <= row[axis] <= 1 for row in rows for axis in "xy")
    cosines = evidence.projected @ evidence.projected.T
    np.fill_diagonal(cosines, -2)
    for number, row in enumerate(rows):
        near = row["neighbors"]
        assert number not in near["ids"]
        np.testing.assert_allclose(near["distances"], 1 - cosines[number, near["ids"]], atol=1e-5)
        assert near["distances"][0] == pytest.approx(1 - cosines[number].max(), abs=1e-5)
        assert near["distances"] == sorted(near["distances"])


def test_a_path_that_is_not_utf8_is_written_with_escapes(
    discovered: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = gather(discovered[0], torch.device("cpu"))
    odd = Path(os.fsdecode(b"/photos/\xff.png"))
    monkeypatch.setattr(type(evidence.images.source), "file", lambda source, index: odd)
    monkeypatch.setattr(atlas, "gather", lambda *_: evidence)
    table, _ = atlas.export_atlas(discovered[0], tmp_path / "atlas.parquet")
    assert set(pq.read_table(table).column("path").to_pylist()) == {"/photos/\\xff.png"}


def test_flags_of_other_formats_are_refused(
    discovered: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(discovered[0]), "--format", "atlas", "--all"]) == 2
    assert "do not apply to --format atlas" in capsys.readouterr().err
