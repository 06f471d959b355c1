from __future__ import annotations

import base64
import copy
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.data.splits.partition import Subset
from crkd.models.architecture import VECTORS
from crkd.review import page
from crkd.review.class_summaries import found_classes
from crkd.review.compact_features import compact
from crkd.review.page_html import digest, render
from crkd.review.run_outputs import Evidence
from crkd.review.run_summary import curves, recorded
from crkd.review.split_class import divide
from crkd.review.thumbnails import data_uri
from crkd.runs.folder import RunFolder
from crkd.stages.forward import Outputs
from tests.support.review_page import HOSTILE

CPU = torch.device("cpu")


class Tags(HTMLParser):
    """Collects what a browser would take for elements, and the data block."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.data, self._inside = "", False

    def handle_starttag(self, tag, attrs):  # type: ignore[no-untyped-def]
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]
        self._inside = ("id", "data") in attrs

    def handle_endtag(self, tag):  # type: ignore[no-untyped-def]
        self._inside = False

    def handle_data(self, data):  # type: ignore[no-untyped-def]
        self.data += data if self._inside else ""


def test_facts_of_a_run_have_one_note_a_line(evidence: Evidence) -> None:
    opened = evidence.opened
    noted = dataclasses.replace(opened, info=dataclasses.replace(opened.info, notes=("one", "two")))
    facts = recorded(noted)["facts"]
    assert facts["notes"] == "one\ntwo"
    assert facts["backbone"].endswith(" px")
    of_vectors = dataclasses.replace(
        noted,
        architecture=dataclasses.replace(opened.architecture, backbone=VECTORS, image_size=1280),
    )
    assert recorded(of_vectors)["facts"]["backbone"] == "vectors of 1,280 numbers"


def test_classes_hold_what_predictions_say(evidence: Evidence) -> None:
    assigned = evidence.assigned
    assert assigned.tolist() == evidence.outputs.joint[evidence.head].tolist()
    confidence = evidence.outputs.confidence(evidence.head)
    found = found_classes(evidence)
    assert [entry.id for entry in found] == [2, 3, 4, 5]
    for entry in found:
        assert sorted(entry.members) == np.flatnonzero(assigned == entry.id).tolist()
        assert (np.diff(confidence[entry.members]) <= 0).all(), "the surest come first"
        if not len(entry.members):
            continue
        logits = evidence.outputs.known_logits[entry.members].astype(float)
        softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert dict(entry.resembles) == pytest.approx(dict(enumerate(softmax.mean(axis=0))))
        assert entry.resembles[0][1] == max(share for _, share in entry.resembles)
        assert evidence.agreement is not None
        assert entry.stability == pytest.approx(evidence.agreement[entry.members].mean())


def test_halves_are_those_of_two_bundles_of_directions() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(60) < 0.4
    rows = np.where(truth[:, None], [0.0, 1.0, 0.2], [1.0, 0.0, 0.2]) + rng.normal(0, 0.05, (60, 3))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    seeds = (int(np.argmin(truth)), int(np.argmax(truth)))
    later, directions = divide(rows, *seeds)
    assert (later == truth).all()
    swapped, _ = divide(rows, *seeds[::-1])
    assert (swapped == ~later).all(), "the seeds say which half is the first"
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)


def test_compact_features_keep_the_nearest_neighbors() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 64))[np.arange(400) % 8] + rng.normal(0, 0.3, (400, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    small = compact(rows).astype(float)
    assert small.shape == (400, 32)
    assert np.abs(small).max() == 127
    exact = np.linalg.norm(rows[:, None] - rows, axis=-1)
    near = np.linalg.norm(small[:, None] - small, axis=-1)
    assert np.corrcoef(exact.ravel(), near.ravel())[0, 1] > 0.99
    first = np.argsort(near, axis=1)[:, :10]
    assert (first % 8 == np.arange(400)[:, None] % 8).all()
    assert compact(rows[:0]).shape == (0, 32)
    assert compact(rows[:, :3]).shape == (400, 3)
    assert not compact(np.ones((5, 4), np.float32)).any()


def pictured(evidence: Evidence) -> dict[str, Any]:
    data = page.page_data(evidence)
    assert page.embed_pictures(data, evidence, page.THUMBNAIL_BUDGET)
    return data


def test_the_page_shows_what_the_run_holds(evidence: Evidence) -> None:
    data = pictured(evidence)
    assert sorted(image["id"] for image in data["images"]) == sorted(evidence.images.ids)
    order = [(image["class"], -image["confidence"]) for image in data["images"]]
    assert order == sorted(order), "by class, the most certain first"
    assert data["curves"] == {"loss": [[0.0, 1.0], [1.0, 0.5], [2.0, 0.33333]]}
    assert data["confusion"]["part"] == "test"
    assert "backbone: resnet8" in data["config"]
    joint = evidence.outputs.joint_logits(evidence.head).astype(float)
    shares = np.exp(joint) / np.exp(joint).sum(axis=1, keepdims=True)
    for image in data["images"]:
        row = evidence.images.ids.index(image["id"])
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
        read = evidence.images.source.read(int(evidence.images.indices[row]))
        assert np.array_equal(np.asarray(picture.convert("RGB")), read), "small ones stay whole"
        best = np.argsort(-shares[row])[:4]
        expected = [c for c in best if c != image["class"]][:3]
        for (other, share), wanted in zip(image["near"], expected, strict=False):
            assert share == pytest.approx(shares[row, wanted], abs=1e-3)
            assert other != image["class"]


def test_images_of_a_known_class_by_the_joint_output_are_disputed(evidence: Evidence) -> None:
    known = evidence.outputs.known_logits.copy()
    known[[3, 9], 1] += 1000
    outputs = dataclasses.replace(evidence.outputs, known_logits=known)
    own = dataclasses.replace(evidence, outputs=outputs)
    # As where all unlabeled images are novel: the best novel class.
    own.__dict__["assigned"] = own.num_known + outputs.novel[own.head]
    entries = {image["id"]: image for image in page.page_data(own)["images"]}
    disputed = {name: one["disputed"] for name, one in entries.items() if "disputed" in one}
    assert disputed == {evidence.images.ids[row]: 1 for row in (3, 9)}
    assert all(one["class"] >= 2 for one in entries.values())


def test_a_class_on_vectors_has_the_stability_of_its_seeds(
    evidence: Evidence, tmp_path: Path
) -> None:
    own = dataclasses.replace(evidence, agreement=None)
    assert all(entry.stability is None for entry in found_classes(own))
    run = RunFolder.create(tmp_path / "run")
    own = dataclasses.replace(own, opened=dataclasses.replace(evidence.opened, run=run))
    (run.path / "stability.json").write_text('{"novel-1": 0.25}')
    assert [entry.stability for entry in found_classes(own)] == [None, 0.25, None, None]
    (run.path / "stability.json").write_text('{"novel-1": "x"}')
    with pytest.raises(InputError, match="damaged"):
        found_classes(own)


def test_an_image_is_found_by_its_address(evidence: Evidence) -> None:
    data = page.page_data(evidence)
    for image in data["images"]:
        name = image.get("file", image["id"].partition("/")[2])
        place = Path(unquote(data["root"].removeprefix("file://") + name))
        assert place == evidence.images.source.file(
            int(evidence.images.indices[evidence.images.ids.index(image["id"])])
        )


def test_many_images_have_their_thumbnails_in_a_folder(
    discovered: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "EMBEDDED", 40)
    out = tmp_path / "page.html"
    for _ in range(2):
        assert run_verb("review", [str(discovered[0]), "--out", str(out)]) == 0
    tags = Tags()
    tags.feed(out.read_text())
    data = json.loads(tags.data)
    assert data["sheets"] == {"folder": "page.files", "across": 6, "side": 32}
    assert not any("src" in image for image in data["images"])
    folder = tmp_path / "page.files"
    assert sorted(file.name for file in folder.iterdir()) == ["0.jpg", "1.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.files", "page.html"]
    sheets = [np.asarray(Image.open(folder / f"{n}.jpg").convert("RGB")) for n in range(2)]
    for number, image in enumerate(data["images"]):
        sheet, place = divmod(number, 36)
        y, x = (32 * part for part in divmod(place, 6))
        tile = sheets[sheet][y : y + 32, x : x + 32].astype(float)
        pixels = Image.open(discovered[1] / image["id"].partition("/")[2]).resize((32, 32))
        apart = tile.mean((0, 1)) - np.asarray(pixels).mean((0, 1))
        assert np.abs(apart).max() < 8


def test_a_folder_of_other_files_is_not_replaced(
    discovered: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "EMBEDDED", 40)
    (tmp_path / "page.files").mkdir()
    (tmp_path / "page.files" / "mine.txt").write_text("precious")
    command = [str(discovered[0]), "--out", str(tmp_path / "page.html")]
    assert run_verb("review", command) == 2
    assert [p.name for p in tmp_path.rglob("*")] == ["page.files", "mine.txt"]


def test_a_file_name_never_becomes_markup(discovered: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert run_verb("review", [str(discovered[0]), "--out", str(out)]) == 0
    tags = Tags()
    tags.feed(out.read_text())
    assert "img" not in tags.tags
    assert tags.tags.count("script") == 2
    assert any(image["id"] == f"novel/{HOSTILE}" for image in json.loads(tags.data)["images"])


def test_text_from_a_run_closes_no_element_and_fills_no_field(evidence: Evidence) -> None:
    data = page.page_data(evidence)
    data["classes"][0]["name"] = "</script><script>alert(1)</script>{{script}}<!--\u2028"
    data["title"] = "<b>{{data}}"
    tags = Tags()
    tags.feed(render(data))
    assert tags.tags.count("script") == 2
    assert "b" not in tags.tags
    assert json.loads(tags.data)["classes"][0]["name"] == data["classes"][0]["name"]


def test_the_page_loads_nothing_and_allows_its_own_script_alone(evidence: Evidence) -> None:
    text = render(page.page_data(evidence))
    tags = Tags()
    tags.feed(text)
    assert tags.addresses == []
    assert "{{" not in text.split("</style>")[0]
    assert re.search(r"default-src 'none'; img-src data: file:; style-src 'sha256-", text)
    script = text.split("<script>")[1].split("</script>")[0]
    assert digest(script) in text


def test_a_budget_that_is_too_small_leaves_the_page_without_thumbnails(evidence: Evidence) -> None:
    size = sum(len(image["src"]) for image in pictured(evidence)["images"])
    data = page.page_data(evidence)
    assert not page.embed_pictures(data, evidence, size - 1)
    assert not any("src" in image for image in data["images"])
    assert page.embed_pictures(data, evidence, size)


def test_thumbnails_are_made_in_the_order_of_the_source_and_shown_in_that_of_the_page(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def made(images: Subset, rows: NDArray[np.int64], budget: int) -> list[str | None]:
        asked.extend(images.indices[rows].tolist())
        return [None if row == rows[0] else f"image {images.indices[row]}" for row in rows]

    monkeypatch.setattr(page, "embedded_thumbnails", made)
    shown = evidence.images.indices[evidence.order].tolist()
    assert shown != sorted(shown)
    data = pictured(evidence)
    assert asked == sorted(shown)
    for index, image in zip(shown, data["images"], strict=True):
        if index == asked[0]:
            assert image["unreadable"]
        else:
            assert image["src"] == f"image {index}"


def test_the_work_for_an_image_does_not_grow_with_the_number_of_images(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All logits may be looked at for the whole page, never for one image of it.
    calls = []
    honest = Outputs.joint_logits
    monkeypatch.setattr(
        Outputs, "joint_logits", lambda *given: calls.append(given) or honest(*given)
    )
    page.page_data(dataclasses.replace(evidence))
    assert 0 < len(calls) <= 8


def test_a_page_with_embedded_thumbnails_stays_below_25_mb() -> None:
    # Everything but the pictures, at its worst: long paths, a full confusion matrix.
    images = [
        {
            "id": f"novel/{'x' * 240}/{n}.png",
            "class": n % 200,
            "confidence": 0.1234,
            "at": [-0.123, -0.123],
            "near": [[100, 0.123]] * 3,
            "file": f"{'x' * 240}/{n}.png",
        }
        for n in range(page.EMBEDDED)
    ]
    plain = {
        "title": "",
        "images": images,
        "confusion": {"counts": np.full((250, 250), 1000).tolist()},
        "curves": {str(n): [[123.45, 0.12345]] * 400 for n in range(30)},
    }
    assert len(render(plain)) + page.THUMBNAIL_BUDGET < 25_000_000


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 2), (3000, 2000)])
def test_a_thumbnail_of_any_shape_is_small(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    uri = data_uri(pixels)
    assert len(uri) < 20_000
    assert max(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size) <= 96


def test_curves_are_thinned_and_pass_over_a_damaged_line(tmp_path: Path) -> None:
    lines = [json.dumps({"step": n, "epoch": n / 10, "loss": 1 / (n + 1)}) for n in range(1001)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"step": 3, "epoch": 3, "lo']))
    found = curves(RunFolder(tmp_path))
    assert found.keys() == {"loss"}
    assert 300 < len(found["loss"]) <= 401
    assert found["loss"][0] == [0.0, 1.0]
    assert found["loss"][-1][0] == 100.0


def test_a_run_without_discovered_classes_is_refused(
    evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = copy.deepcopy(evidence.opened.network)
    alone.novel_heads = None
    shape = dataclasses.replace(evidence.opened.architecture, num_novel=0)
    run = RunFolder.create(tmp_path / "stage1")
    info = dataclasses.replace(
        evidence.opened.info,
        kind="supervised",
        classes=evidence.opened.info.classes[:2],
        architecture=shape.plain(),
        chosen_head=None,
        model_sha256=run.write_model(alone.state_dict(), {}),
    )
    run.write_info(info)
    run.write_config(evidence.opened.config)
    assert run_verb("review", [str(run.path)]) == 2
    assert "no novel heads whose classes could be reviewed" in capsys.readouterr().err
