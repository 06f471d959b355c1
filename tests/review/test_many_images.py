"""The page of many images: the same bytes, and little memory for each image."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.people import made_up_evidence, untrained_run
from crkd.clustering import row_pieces
from crkd.core.errors import InputError
from crkd.data.sources.base import ImageSource, Pixels, UnreadableImageError
from crkd.data.splits.partition import Subset
from crkd.evaluation.calibration import probabilities
from crkd.review import page, page_images, run_outputs, thumbnails
from crkd.review.class_summaries import found_classes
from crkd.review.page_html import render
from crkd.review.run_outputs import Evidence
from crkd.review.thumbnails import write_sheets
from crkd.runs.disputed import disputed_classes
from crkd.stages.run_data import RunData

SIDE = 96


class Colors(ImageSource):
    """N large images, made when they are read; every tenth is unreadable."""

    def __init__(self, count: int) -> None:
        super().__init__(np.full(count, -1), [], [f"new/{n}.png" for n in range(count)])

    def read(self, index: int) -> Pixels:
        if index % 10 == 3:
            raise UnreadableImageError(self.ids[index], "damaged")
        return np.full((SIDE, SIDE, 3), index % 251, np.uint8)


def part(count: int) -> Subset:
    source = Colors(count)
    return Subset(source, np.arange(count), source.labels, list(source.ids))


def test_the_file_is_the_page_made_at_once(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = page.page_data(evidence)
    assert page.embed_pictures(data, evidence, page.THUMBNAIL_BUDGET)
    page.write_page(evidence, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == render(data)
    monkeypatch.setattr(page, "EMBEDDED", 40)
    counts = page.write_page(evidence, tmp_path / "page.html")
    data = page.page_data(evidence)
    data["sheets"] = {"folder": "page.files", "across": 6, "side": 32}
    assert (tmp_path / "page.html").read_text() == render(data)
    sheets = sum(file.stat().st_size for file in (tmp_path / "page.files").iterdir())
    assert counts["bytes"] == (tmp_path / "page.html").stat().st_size + sheets
    assert counts["images"] == counts["thumbnails"] == len(evidence.images)


@pytest.mark.parametrize("mixed", [False, True])
def test_values_in_blocks_are_those_of_all_images_at_once(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, mixed: bool
) -> None:
    draw = np.random.default_rng(0)
    known = 9 * draw.normal(size=evidence.outputs.known_logits.shape).astype(np.float32)
    config = evidence.opened.config
    discover = dataclasses.replace(config.discover, mixed=mixed)
    config = dataclasses.replace(config, discover=discover)
    own = dataclasses.replace(
        evidence,
        opened=dataclasses.replace(evidence.opened, config=config),
        outputs=dataclasses.replace(evidence.outputs, known_logits=known),
    )
    whole = page.page_data(dataclasses.replace(own))
    monkeypatch.setattr(run_outputs, "BLOCK", 7)
    monkeypatch.setattr(page_images, "BLOCK", 5)
    assert page.page_data(own) == whole
    joint = own.outputs.joint_logits(own.head)
    shares = probabilities(joint)
    rows = np.arange(len(shares))
    assert np.array_equal(own.confidence, shares[rows, own.assigned])
    if mixed:
        assert np.array_equal(own.assigned, joint.argmax(axis=1))
    else:
        assert (own.disputed >= 0).any()
        assert np.array_equal(own.disputed, disputed_classes(joint, own.num_known))
    relation = probabilities(known)
    for entry in found_classes(own):
        for label, share in entry.resembles:
            assert share == pytest.approx(relation[entry.members, label].mean())


def test_unreadable_images_are_marked_and_counted(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = part(len(evidence.images))
    data = cast(RunData, SimpleNamespace(subsets=SimpleNamespace(unlabeled=images)))
    own = dataclasses.replace(evidence, data=data)
    monkeypatch.setattr(page, "EMBEDDED", 40)
    counts = page.write_page(own, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    found: dict[str, Any] = json.loads(text.split('id="data">')[1].split("</script>")[0])
    marked = {image["id"] for image in found["images"] if image.get("unreadable")}
    assert marked == {f"new/{n}.png" for n in range(3, len(images), 10)}
    assert counts["thumbnails"] == len(images) - len(marked)


def test_a_folder_of_other_files_is_refused_before_the_work(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "EMBEDDED", 40)
    monkeypatch.setattr(page, "_content", lambda _: pytest.fail("the work began"))
    (tmp_path / "page.files").mkdir()
    (tmp_path / "page.files" / "mine.txt").touch()
    with pytest.raises(InputError, match=r"mine\.txt"):
        page.write_page(evidence, tmp_path / "page.html")


def traced(work: Any, *arguments: Any) -> int:
    """Return the largest memory that Python and NumPy allocate during some work, in bytes."""
    tracemalloc.start()
    try:
        work(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_thumbnails_does_not_grow_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "SHEETS_BYTES", 4 << 20)
    peaks = []
    for count in (300, 300, 1500):
        images, folder = part(count), tmp_path / str(len(peaks))
        folder.mkdir()
        peaks.append(traced(write_sheets, images, np.arange(count), folder))
    # The pixels of these images have 41 MB, those of a sheet 1 MB; a few sheets are under way.
    assert peaks[2] < peaks[1] + 3_000_000


def test_an_image_of_a_page_takes_few_bytes_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WHOLE_ROWS", "PIECE_ROWS"):
        monkeypatch.setattr(row_pieces, name, 100)
    monkeypatch.setattr(page_images, "BLOCK", 100)
    monkeypatch.setattr(run_outputs, "BLOCK", 100)
    monkeypatch.setattr(page, "EMBEDDED", 100)
    monkeypatch.setattr(thumbnails, "SHEETS_BYTES", 1 << 20)
    run, peaks, counts = untrained_run(tmp_path / "run"), [], (1000, 1000, 4000)
    for count in counts:
        found = made_up_evidence(run, count, "smooth pictures")
        peaks.append(traced(page.write_page, found, tmp_path / "page.html"))
    # Compact features alone have 160 bytes, and 43 as text; entries of all images had 2,000 more.
    assert (peaks[2] - peaks[1]) / (counts[2] - counts[1]) < 600
