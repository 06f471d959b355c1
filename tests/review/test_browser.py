"""The page in a real browser: decisions of a person become predictions of the new run."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.review.decisions import FORMAT, VERSION, read_decisions
from crkd.review.page import THUMBNAIL_BUDGET, embed_pictures, page_data
from crkd.review.page_html import render
from crkd.review.run_outputs import gather
from crkd.runs.csv_cells import unescape_formula
from tests.support.browser import CHROMIUM, opened

HOSTILE = '<img src=x onerror="document.title=1">.png'
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


@pytest.fixture(scope="module")
def written(discovered: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The review page of the run, which no test changes."""
    out = tmp_path_factory.mktemp("page") / "review.html"
    assert run_verb("review", [str(discovered[0]), "--out", str(out)]) == 0
    return out


@pytest.fixture
def page(written: Path, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A copy of the page, opened."""
    out = shutil.copy(written, tmp_path / "review.html")
    with opened(browser, out) as window:
        yield window


def shown(page: Any) -> list[str]:
    """Files of the images in the grid, in its order, as far as they are in the document."""
    found: list[str] = page.locator("#grid .thumb").evaluate_all(
        "all => all.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)"
        ".map((one) => one.title.split('\\n')[0])"
    )
    return found


def listed(page: Any) -> int:
    """Number of all images in the grid, also of those that are not in the document."""
    return int(page.locator("#pictures-title small").text_content().split()[0])


def color_of(file: str) -> int:
    """The color of an image, by its number."""
    number = 7 if file.endswith(HOSTILE) else int(file.split()[-1].removesuffix(".png"))
    return int(np.searchsorted([18, 32, 42], number, side="right"))


def chosen(page: Any) -> int:
    return page.locator("#grid [aria-selected=true]").count()


def size_of(page: Any, class_id: int) -> str:
    text: str = page.locator(f"#list [data-id='{class_id}'] .meta").text_content()
    return text.split(" · ")[0]


def names(run: Path, images: Path) -> dict[str, str]:
    out = run / "rows.json"
    predict(run, [images], out, device=torch.device("cpu"))
    return {row.path: row.class_name for row in read(out)}


def save(page: Any, place: Path) -> Path:
    with page.expect_download() as waiting:
        page.keyboard.press("Control+s")
    waiting.value.save_as(place)
    return place


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


def test_every_image_of_a_class_can_be_reached_but_few_are_in_the_document(page: Any) -> None:
    page.set_viewport_size({"width": 620, "height": 420})
    total = int(size_of(page, 2).split()[0])
    for _ in range(3):
        page.keyboard.press("+")
    page.keyboard.press("i")
    seen = set(shown(page))
    assert 0 < len(seen) < total
    page.keyboard.press("End")
    page.wait_for_function(f"document.querySelector('[aria-posinset=\"{total}\"]')")
    assert page.locator(f"[aria-posinset='{total}']").is_visible()
    for _ in range(total):
        page.keyboard.press("ArrowLeft")
        seen |= set(shown(page))
    assert len(seen) == total
    assert page.locator("#grid").get_attribute("aria-activedescendant") == "at-0"
    assert page.locator("#at-0").is_visible()


def test_an_enlarged_image_has_facts_and_arrows_walk_on(page: Any) -> None:
    files = shown(page)
    page.locator("#grid .thumb").first.dblclick()
    assert page.locator("#viewer").is_visible()
    assert chosen(page) == 0, "a double click selects nothing"
    facts = page.locator("#viewer-facts").text_content()
    assert files[0] in facts
    assert "Confidence" in facts
    page.wait_for_function("document.querySelector('#viewer-picture img').naturalWidth === 18")
    page.keyboard.press("ArrowRight")
    assert files[1] in page.locator("#viewer-facts").text_content()
    source = page.locator("#viewer-picture img").get_attribute("src")
    assert source.startswith("file://"), "the file itself is shown where it can be reached"
    page.keyboard.press("s")
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    assert chosen(page) == 1
    # Without the file, the thumbnail is shown.
    page.evaluate("document.querySelector('#viewer-picture img').dispatchEvent(new Event('error'))")
    assert page.locator("#viewer-picture img").get_attribute("src").startswith("data:")


def test_ranges_are_selected_by_mouse_and_keyboard(page: Any) -> None:
    thumbs = page.locator("#grid .thumb")
    thumbs.nth(2).click()
    thumbs.nth(5).click(modifiers=["Shift"])
    assert chosen(page) == 4
    page.keyboard.press("Escape")
    assert chosen(page) == 0
    page.keyboard.press("i")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowLeft")
    assert chosen(page) == 3
    page.keyboard.press("Control+a")
    assert page.locator("#selection strong").text_content() == f"{thumbs.count()} selected"


def test_sizes_follow_moves_and_undo_restores_them(page: Any) -> None:
    first, second = (int(size_of(page, n).split()[0]) for n in (2, 3))
    files = shown(page)
    page.locator("#grid .thumb").nth(0).click()
    page.locator("#grid .thumb").nth(2).click(modifiers=["Shift"])
    page.select_option("#target", label="novel-1")
    assert (size_of(page, 2), size_of(page, 3)) == (f"{first - 3} images", f"{second + 3} images")
    assert shown(page) == files[3:]
    assert "3 images moved" in page.locator("#progress").text_content()
    page.keyboard.press("Control+z")
    assert (size_of(page, 2), size_of(page, 3)) == (f"{first} images", f"{second} images")
    assert shown(page) == files
    page.keyboard.press("Control+Shift+z")
    assert size_of(page, 3) == f"{second + 3} images"
    page.locator("#undo").click()
    page.locator("#name").fill("apple")
    page.locator("#name").blur()
    page.keyboard.press("Control+z")
    assert page.locator("#name").input_value() == "novel-0", "a name is undone as a whole"
    page.keyboard.press("x")
    assert size_of(page, 2) == "0 images"
    assert page.locator("[data-kind=out]").is_visible()


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


def test_the_nearest_images_are_of_the_same_color(page: Any) -> None:
    page.locator("[data-kind=all]").click()
    page.keyboard.press("i")
    page.keyboard.press("End")
    page.keyboard.press("n")
    files = shown(page)
    assert len(files) == 48
    assert len({color_of(file) for file in files[:6]}) == 1
    assert page.locator(".example").text_content().count(files[0]) == 1, "itself first"
    page.locator("#back").click()
    assert page.locator("#name").is_visible()


def test_the_map_filters_the_grid_by_class_and_region(page: Any) -> None:
    page.keyboard.press("2")
    assert listed(page) == 48
    legend = page.locator("#legend button")
    legend.nth(1).click()
    files = shown(page)
    assert f"{listed(page)}" == legend.nth(1).locator("small").text_content()
    assert len({color_of(file) for file in files}) == 1
    page.locator("#map-reset").click()
    box = page.locator("#plane").bounding_box()
    corner = (box["x"] + 2, box["y"] + 2)
    page.mouse.move(*corner)
    page.mouse.down()
    page.mouse.move(corner[0] + box["width"] / 2, corner[1] + box["height"] / 2, steps=4)
    page.mouse.move(corner[0] + box["width"] / 2, corner[1], steps=4)
    page.mouse.up()
    some = listed(page)
    assert 0 <= some < 48
    page.keyboard.press("Escape")
    page.mouse.move(*corner)
    page.mouse.down()
    page.keyboard.down("Shift")
    page.mouse.move(corner[0] + box["width"] - 4, corner[1] + box["height"] - 4, steps=4)
    page.keyboard.up("Shift")
    page.mouse.up()
    assert "Images of the region" in page.locator("#pictures-title").text_content()
    # The keyboard alone: a point, and a region around it that grows.
    page.locator("#map-reset").click()
    page.locator("#plane").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#point img").evaluate("one => one.naturalWidth") == 18
    sizes = []
    for _ in range(4):
        page.keyboard.press("Shift+ArrowUp")
        sizes.append(listed(page))
    assert sizes == sorted(sizes)
    assert sizes[0] >= 1
    page.keyboard.press("Control+a")
    assert page.locator("#selection").is_visible()


def test_the_pointer_shows_the_picture_of_a_point(page: Any) -> None:
    page.keyboard.press("2")
    box, point = page.locator("#plane").bounding_box(), page.locator("#point")
    data = json.loads(page.locator("#data").text_content())
    at = np.array([image["at"] for image in data["images"]])
    # The points fill the map but for a margin of 20 pixels, on equal scales.
    span = np.ptp(at, axis=0)
    scale = min((box["width"] - 40) / span[0], (box["height"] - 40) / span[1])
    center = (at.min(axis=0) + at.max(axis=0)) / 2
    x, y = (at[3] - center) * scale * [1, -1] + [box["width"] / 2, box["height"] / 2]
    page.mouse.move(box["x"] + x, box["y"] + y)
    assert point.locator("img").is_visible()
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    assert point.is_visible(), "a point that was clicked stays chosen"
    page.locator("#plane").focus()
    page.keyboard.press("Escape")
    assert not point.is_visible()


def test_disputed_images_have_a_view_of_their_own(
    discovered: tuple[Path, Path], browser: Any, tmp_path: Path
) -> None:
    evidence = gather(discovered[0], torch.device("cpu"))
    data = page_data(evidence)
    assert embed_pictures(data, evidence, THUMBNAIL_BUDGET)
    for image in data["images"]:
        image.pop("disputed", None)
    for number in (0, 5, 20):
        data["images"][number]["disputed"] = number % 2
    files = [data["images"][number]["id"] for number in (0, 5, 20)]
    out = tmp_path / "page.html"
    out.write_text(render(data))
    with opened(browser, out) as window:
        window.locator("[data-kind=disputed]").click()
        assert sorted(shown(window)) == sorted(files)
        window.keyboard.press("i")
        window.keyboard.press("Enter")
        assert "a known class" in window.locator("#viewer-facts").text_content()
        window.keyboard.press("Escape")
        window.keyboard.press("Control+a")
        window.locator("#accept-known").click()
        assert shown(window) == []
        content = json.loads(save(window, tmp_path / "d.json").read_text())
    assert {(i["id"], i["to"]) for i in content["images"]} == set(
        zip(files, (0, 1, 0), strict=True)
    )


def test_thumbnails_in_a_folder_are_shown(
    discovered: tuple[Path, Path], browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crkd.review.page.EMBEDDED", 40)
    out = tmp_path / "odd #1 page%.html"
    assert run_verb("review", [str(discovered[0]), "--out", str(out)]) == 0
    with opened(browser, out) as window:
        parts = window.locator("#grid .thumb .part")
        assert parts.count() == window.locator("#grid .thumb").count() > 0
        loads = """one => new Promise((resolve) => {
            const image = new Image();
            image.onload = () => resolve(image.naturalWidth);
            image.onerror = () => resolve(0);
            image.src = getComputedStyle(one).backgroundImage.slice(5, -2);
        })"""
        assert parts.first.evaluate(loads) == 6 * 32


def test_every_control_has_a_name_and_every_reference_a_target(page: Any) -> None:
    check = """() => {
        const wrong = [], all = (selector) => [...document.querySelectorAll(selector)];
        const ids = all('[id]').map((one) => one.id);
        if (new Set(ids).size !== ids.length) wrong.push('an id is used twice');
        const controls = 'button, input, select, dialog, [role=option], [role=listbox]';
        for (const one of all(controls))
            if (!one.closest('label') && !one.ariaLabel && !one.textContent.trim())
                wrong.push(one.outerHTML.slice(0, 80));
        for (const name of ['aria-controls', 'aria-labelledby', 'aria-activedescendant'])
            for (const one of all(`[${name}]`))
                if (!document.getElementById(one.getAttribute(name)))
                    wrong.push(`${name} of ${one.id}`);
        return wrong;
    }"""
    for key in ("s", "u", "2", "3", "4", "1"):
        page.keyboard.press(key)
        assert page.evaluate(check) == []
    page.keyboard.press("i")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    assert page.evaluate(check) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#keys kbd").count() > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_needs_no_sideways_scrolling(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 420, "height": 800})
    fits = """() => document.scrollingElement.scrollWidth <= 420 &&
        [...document.querySelectorAll('[data-scroll]')].every((one) =>
            one.scrollWidth <= one.clientWidth)"""
    for key in ("s", "u", "2", "3", "4", "1"):
        page.keyboard.press(key)
        assert page.evaluate(fits), key
    page.keyboard.press("i")
    page.keyboard.press("Space")
    assert page.locator("#selection").bounding_box()["width"] <= 420
    page.keyboard.press("Enter")
    assert page.locator("#viewer").bounding_box()["width"] <= 420


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


def test_every_tab_shows_its_part(page: Any) -> None:
    for key, part in (("2", "#plane"), ("3", "#confusion"), ("4", "#about pre"), ("1", "#list")):
        page.keyboard.press(key)
        assert page.locator(part).is_visible()
    drawn = json.loads(page.locator("#data").text_content())["confusion"]
    wrong = sum(
        1 for r, row in enumerate(drawn["counts"]) for p, n in enumerate(row) if r != p and n
    )
    page.keyboard.press("3")
    assert page.locator("#mistakes tbody tr").count() == min(wrong, 20)
