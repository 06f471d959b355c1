"""The page in a real browser: decisions of a person become predictions of the new run."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.review.decisions import FORMAT, VERSION, read_decisions
from crkd.review.page import page_data
from crkd.review.page_html import render
from crkd.review.run_outputs import gather
from crkd.runs.csv_cells import unescape_formula
from tests.support.browser import CHROMIUM
from tests.support.review_page import color_of, save, shown, size_of

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


def names(run: Path, images: Path) -> dict[str, str]:
    out = run / "rows.json"
    predict(run, [images], out, device=torch.device("cpu"))
    return {row.path: row.class_name for row in read(out)}


def test_rename_merge_and_reject_change_the_predictions(
    page: Any, discovered: tuple[Path, Path], tmp_path: Path
) -> None:
    run, images = discovered
    pictures = page.locator("#detail .thumb img")
    assert pictures.count() == page.locator("#detail .thumb").count() > 0
    assert pictures.evaluate_all("all => all.every((one) => one.complete && one.naturalWidth > 0)")
    # The keyboard alone: rename the first class, merge the second, reject the third.
    page.keyboard.press("r")
    page.keyboard.type("<i>apple</i>")
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    page.keyboard.press("m")
    page.select_option("#into", label="<i>apple</i>")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("#progress").text_content() == "3 of 4 decided"
    file = save(page, tmp_path / "decisions.json")
    named = tmp_path / "named"
    assert run_verb("apply-review", [str(run), str(file), "--out", str(named)]) == 0
    before, after = names(run, images), names(named, images)
    assert {before[path] for path in before} == {f"novel-{n}" for n in range(4)}
    for path, name in before.items():
        if name in ("novel-0", "novel-1"):
            assert after[path] == "<i>apple</i>"
        elif name == "novel-2":
            assert after[path] != "novel-2"
        else:
            assert after[path] == name


def test_a_move_and_a_taken_name(page: Any, discovered: tuple[Path, Path], tmp_path: Path) -> None:
    page.keyboard.press("j")
    ids = shown(page)[:2]
    page.keyboard.press("i")
    page.keyboard.press("Space")
    page.keyboard.press("o")
    page.locator(f".thumb[title^='{ids[1]}']").click()
    page.select_option("#target", label="novel-2")
    page.locator("#name").fill("A")
    assert "is taken by a known class" in page.locator("#problem").text_content()
    page.keyboard.press("Control+s")
    assert "not saved" in page.locator("#progress").text_content()
    page.locator("#name").fill("pear")
    content = json.loads(save(page, tmp_path / "decisions.json").read_text())
    assert content["images"] == [{"id": ids[0], "to": None}, {"id": ids[1], "to": 4}]
    assert content["classes"] == [{"id": 3, "action": "accept", "name": "pear"}]
    command = [str(discovered[0]), str(tmp_path / "decisions.json")]
    assert run_verb("apply-review", [*command, "--out", str(tmp_path / "named")]) == 0


def test_undecided_classes_come_first(page: Any) -> None:
    rows = page.locator("#list [data-id]")
    order = "all => all.map((one) => Number(one.dataset.id))"
    assert rows.evaluate_all(order)[:4] == [2, 3, 4, 5]
    page.keyboard.press("a")
    assert rows.evaluate_all(order)[:4] == [2, 3, 4, 5], "a class stays until it is left"
    page.keyboard.press("j")
    assert rows.evaluate_all(order)[:4] == [3, 4, 5, 2]
    assert page.locator("#list [aria-current=true]").get_attribute("data-id") == "3"
    assert page.locator("#progress").text_content() == "1 of 4 decided"


def test_accept_keeps_a_name_that_was_typed(page: Any, tmp_path: Path) -> None:
    page.locator("#name").fill("apple")
    page.locator("#do-accept").click()
    assert page.locator("#name").input_value() == "apple"
    assert page.locator("#do-accept").get_attribute("aria-pressed") == "true"
    content = json.loads(save(page, tmp_path / "d.json").read_text())
    assert content["classes"] == [{"id": 2, "action": "accept", "name": "apple"}]
    page.locator("#do-split").click()
    page.locator(".part-name").nth(0).fill("red")
    page.locator("#do-split").click()
    assert page.locator(".part-name").nth(0).input_value() == "red"
    page.locator("#do-open").click()
    assert page.locator("#progress").text_content() == "0 of 4 decided"


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("Stra\u00dfe", "STRASSE", "is taken by class 2"),
        ("\u1e9e", "SS", "is taken by class 2"),
        ("kap\u0131", "kapi", ""),
        ("x", "\U0001fae8", ""),
        ("x", "a\u200db", ""),
        ("x", "\u200d", "can be seen"),
        ("x", "\u2800", "can be seen"),
        ("x", "\u3164", "can be seen"),
    ],
)
def test_the_page_refuses_the_names_that_apply_review_refuses(
    page: Any, tmp_path: Path, first: str, second: str, problem: str
) -> None:
    page.locator("#name").fill(first)
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    page.locator("#name").fill(second)
    said = page.locator("#problem").text_content()
    assert problem in said
    assert bool(said) == bool(problem)
    file, run = tmp_path / "d.json", {"model_sha256": "0", "shown_sha256": "1"}
    pairs = ((2, first), (3, second))
    classes = [{"id": number, "action": "accept", "name": name} for number, name in pairs]
    content = {"format": FORMAT, "version": VERSION, **run, "classes": classes, "images": []}
    file.write_text(json.dumps(content))
    with pytest.raises(InputError) if problem else contextlib.nullcontext():
        read_decisions(file, **run, names=["a", "b", "c", "d"], num_known=2, images=())


def test_a_class_without_images_is_to_be_rejected_or_merged(page: Any) -> None:
    page.locator("#list [data-id='5']").click()
    page.locator("#select-all").click()
    page.select_option("#target", label="novel-0")
    assert page.locator("#problem").text_content() == "No image is left; reject or merge it."
    page.keyboard.press("Control+s")
    assert "not saved" in page.locator("#progress").text_content()
    page.keyboard.press("x")
    assert page.locator("#problem").text_content() == ""


def test_a_mixed_class_is_split_into_its_clusters(
    page: Any, discovered: tuple[Path, Path], tmp_path: Path
) -> None:
    # All images are put into one class, and the person divides it again.
    page.locator("[data-kind=all]").click()
    page.keyboard.press("Control+a")
    page.select_option("#target", label="novel-0")
    page.locator("#list [data-id='2']").click()
    assert size_of(page, 2) == "48 images"
    page.keyboard.press("s")
    assert page.locator(".part-box").count() == 2
    page.locator("#parts").fill("4")
    page.locator("#parts").press("Enter")
    assert page.locator(".part-box").count() == 4
    parts = {}
    for number in range(4):
        page.locator(".part-box button").nth(number).click()
        parts[number] = shown(page)
        page.locator(".part-box button").nth(number).click()
    assert [len(parts[n]) for n in range(4)] == [18, 14, 10, 6], "the largest part comes first"
    assert all(len({color_of(file) for file in files}) == 1 for files in parts.values())
    # One part goes into a known class, one into another discovered class.
    page.locator(".part-into").nth(1).select_option(label="b")
    page.locator(".part-into").nth(2).select_option(label="novel-1")
    page.locator(".part-name").nth(0).fill("red")
    page.locator("#list [data-id='4']").click()
    page.select_option("#into", label="red")
    # No image is left in the last class.
    page.locator("#list [data-id='5']").click()
    page.keyboard.press("x")
    file = save(page, tmp_path / "decisions.json")
    named = tmp_path / "named"
    command = [str(discovered[0]), str(file), "--out", str(named), "--images", "csv"]
    assert run_verb("apply-review", command) == 0
    with (named / "labels.csv").open(newline="") as table:
        labels = {Path(unescape_formula(r["path"])).name: r["class"] for r in csv.DictReader(table)}
    names = {
        color_of(parts[n][0]): name for n, name in enumerate(["red", "b", "novel-1", "novel-0 d"])
    }
    assert labels == {Path(f).name: names[color_of(f)] for files in parts.values() for f in files}


def test_undo_of_a_split_shows_the_class_again(page: Any) -> None:
    files = shown(page)
    page.keyboard.press("s")
    page.locator(".part-box button").nth(0).click()
    assert "Part 1" in page.locator("#pictures-title").text_content()
    page.keyboard.press("Control+z")
    assert "Images" in page.locator("#pictures-title").text_content()
    assert shown(page) == files
    # Of three parts the third is shown; undo leaves two.
    page.keyboard.press("s")
    page.locator("#parts").fill("3")
    page.locator("#parts").blur()
    page.locator(".part-box button").nth(2).click()
    assert "Part 3" in page.locator("#pictures-title").text_content()
    page.keyboard.press("Control+z")
    assert page.locator(".part-box").count() == 2
    assert shown(page) == files
    page.locator(".part-box button").nth(1).click()
    page.keyboard.press("Control+Shift+z")
    assert "Part 2" in page.locator("#pictures-title").text_content(), "it exists after redo too"


def test_a_class_is_merged_into_a_known_one(page: Any, tmp_path: Path) -> None:
    page.keyboard.press("m")
    page.select_option("#into", label="b")
    assert size_of(page, 2) == "→ b"
    known = page.locator("#list [data-id='1']")
    known.click()
    assert (
        page.locator("#pictures-title small").text_content()
        in known.locator(".meta").text_content()
    )
    assert page.locator("#grid .mark").first.text_content() == "from novel-0"
    content = json.loads(save(page, tmp_path / "d.json").read_text())
    assert content["classes"] == [{"id": 2, "action": "merge", "into": 1}]


def test_what_was_decided_survives_a_reload(page: Any) -> None:
    page.keyboard.press("x")
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    assert page.locator("#progress").text_content() == "1 of 4 decided"
    assert page.title() == "4 discovered classes in folder", "no file name was run as code"


def test_another_review_of_the_same_model_begins_without_decisions(
    page: Any, discovered: tuple[Path, Path], tmp_path: Path
) -> None:
    address = page.url
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#grid .thumb").nth(0).click()
    page.keyboard.press("o")
    file = save(page, tmp_path / "decisions.json")
    named = tmp_path / "named"
    assert run_verb("apply-review", [str(discovered[0]), str(file), "--out", str(named)]) == 0
    for number, run in enumerate((named, tmp_path / "again")):
        out = tmp_path / f"{number}.html"
        assert run_verb("review", [str(run), "--out", str(out)]) == 0
        page.goto(out.as_uri())
        assert page.locator("#progress").text_content() == "0 of 4 decided"
        page.locator("#grid .thumb").nth(1).click()
        page.keyboard.press("o")
        if run == named:
            file = save(page, tmp_path / "moves.json")
            command = [str(named), str(file), "--out", str(tmp_path / "again")]
            assert run_verb("apply-review", command) == 0
    page.goto(address)
    assert page.locator("#progress").text_content() == "0 of 4 decided, 1 image moved"


def test_decisions_are_kept_for_images_and_not_for_their_places(
    page: Any, discovered: tuple[Path, Path], tmp_path: Path
) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    page.keyboard.press("s")
    page.locator("[data-kind=all]").click()
    page.keyboard.press("i")
    page.keyboard.press("End")
    page.keyboard.press("Space")
    page.keyboard.press("o")
    before = json.loads(save(page, tmp_path / "before.json").read_text())
    data = page_data(gather(discovered[0], torch.device("cpu")))
    # As after ties in the confidence: the same images in another order.
    data["images"] = data["images"][::-1]
    out = Path(page.url.removeprefix("file://"))
    out.write_text(render(data))
    page.reload()
    after = json.loads(save(page, tmp_path / "after.json").read_text())
    assert after["images"] == before["images"]
    parts = [[set(p["images"]) for p in file["classes"][0]["parts"]] for file in (before, after)]
    assert parts[0] == parts[1]
