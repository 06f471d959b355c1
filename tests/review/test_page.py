from __future__ import annotations

import base64
import copy
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.commands.main import run_verb
from crkd.review import page
from crkd.review.class_summaries import found_classes
from crkd.review.run_outputs import Evidence, gather
from crkd.review.run_summary import curves
from crkd.review.split_class import divide, find_seeds
from crkd.review.thumbnails import data_uri
from crkd.runs.folder import RunFolder
from crkd.stages.forward import Outputs

CPU = torch.device("cpu")
HOSTILE = '<img src=x onerror="document.title=1">.png'


@pytest.fixture(scope="module")
def evidence(discovered: tuple[Path, Path]) -> Evidence:
    return gather(discovered[0], CPU)


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


def test_classes_hold_what_predictions_say(evidence: Evidence) -> None:
    answered = evidence.answered
    assert answered.tolist() == evidence.outputs.joint[evidence.head].tolist()
    confidence = evidence.outputs.confidence(evidence.head)
    found = found_classes(evidence)
    assert [entry.id for entry in found] == [2, 3, 4, 5]
    for entry in found:
        assert sorted(entry.members) == np.flatnonzero(answered == entry.id).tolist()
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
    seeds = find_seeds(rows)
    assert seeds is not None
    later, directions = divide(rows, *seeds)
    assert (later == truth).all() or (later == ~truth).all()
    swapped, _ = divide(rows, *seeds[::-1])
    assert (swapped == ~later).all(), "the seeds say which half is the first"
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.eye(3)[:1], np.tile(np.eye(3)[:1], (5, 1))])
def test_a_class_of_one_kind_has_no_halves(rows: np.ndarray) -> None:
    assert find_seeds(rows.astype(np.float32)) is None


def test_the_map_takes_every_class_in_turns() -> None:
    answered = np.repeat([0, 1, 2], [1000, 5, 1000])
    rows = page.map_sample(answered, 45)
    assert len(set(rows)) == len(rows) == 45
    assert np.bincount(answered[rows]).tolist() == [20, 5, 20]
    assert len(page.map_sample(answered, 10_000)) == 2005


def test_the_page_shows_what_the_run_holds(evidence: Evidence) -> None:
    data = page.page_data(evidence)
    entry = data["classes"][0]
    ids = [data["images"][index]["id"] for index in [*entry["typical"], *entry["doubtful"]]]
    assert len(ids) == len(set(ids)) == min(entry["size"], 2 * page.SHOWN)
    assert sum(entry["size"] for entry in data["classes"]) + data["answered_known"] == 48
    assert all("src" in image for image in data["images"])
    assert data["curves"] == {"loss": [[0.0, 1.0], [1.0, 0.5], [2.0, 0.33333]]}
    assert data["confusion"]["part"] == "test"
    assert "backbone: resnet8" in data["config"]
    picture = Image.open(io.BytesIO(base64.b64decode(data["images"][0]["src"].split(",")[1])))
    row = evidence.images.ids.index(data["images"][0]["id"])
    read = evidence.images.source.read(int(evidence.images.indices[row]))
    assert np.array_equal(np.asarray(picture.convert("RGB")), read), "small images are kept whole"


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
    tags.feed(page.render(data))
    assert tags.tags.count("script") == 2
    assert "b" not in tags.tags
    assert json.loads(tags.data)["classes"][0]["name"] == data["classes"][0]["name"]


def test_the_page_loads_nothing_and_allows_its_own_script_alone(evidence: Evidence) -> None:
    text = page.render(page.page_data(evidence))
    tags = Tags()
    tags.feed(text)
    assert tags.addresses == []
    assert "{{" not in text.split("</style>")[0]
    assert re.search(r"default-src 'none'; img-src data:; style-src 'sha256-", text)
    script = text.split("<script>")[1].split("</script>")[0]
    assert page._digest(script) in text


def test_thumbnails_stop_at_the_budget_with_the_most_telling_first(evidence: Evidence) -> None:
    everything = page.page_data(evidence)
    size = sum(len(image["src"]) for image in everything["images"])
    data = page.page_data(evidence, budget=size // 2)
    kept = ["src" in image for image in data["images"]]
    assert sum(len(image.get("src", "")) for image in data["images"]) <= size // 2
    assert 0 < sum(kept) < len(kept)
    assert kept == sorted(kept, reverse=True)
    assert [image["id"] for image in data["images"]] == [i["id"] for i in everything["images"]]


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
    assert 0 < len(calls) <= 4


def test_the_largest_page_stays_below_25_mb() -> None:
    # Everything but the pictures, at its worst: 200 classes, long paths, a full confusion matrix.
    images = [
        {
            "id": f"novel/{'x' * 240}/{n}.png",
            "class": n % 200,
            "confidence": 0.1234,
            "half": 1,
            "at": [-0.1234, -0.1234],
        }
        for n in range(200 * 2 * page.SHOWN + page.MAX_POINTS)
    ]
    plain = {
        "title": "",
        "images": images,
        "confusion": {"counts": np.full((250, 250), 1000).tolist()},
        "curves": {str(n): [[123.45, 0.12345]] * 400 for n in range(30)},
    }
    assert len(page.render(plain)) + page.THUMBNAIL_BUDGET < 25_000_000


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
