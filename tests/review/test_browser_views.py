"""The page in a real browser: images, map and tabs, by mouse and keyboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crkd.commands.main import run_verb
from crkd.review.page import THUMBNAIL_BUDGET, embed_pictures, page_data
from crkd.review.page_html import render
from crkd.review.run_outputs import gather
from tests.support.browser import CHROMIUM, opened
from tests.support.review_page import chosen, color_of, listed, save, shown, size_of

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


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
    # No key is broken over two lines.
    lines = "(keys) => keys.map((key) => key.getClientRects().length)"
    assert set(page.locator("#keys kbd").evaluate_all(lines)) == {1}


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


def test_the_run_has_a_line_for_each_note_and_for_each_name(page: Any) -> None:
    page.keyboard.press("4")
    value = page.locator("#about tr td").last
    value.evaluate("(cell) => { cell.textContent = `${'first '.repeat(300)}\\nsecond`; }")
    assert value.inner_text().endswith("\nsecond")
    lines = """cells => cells.map((cell) => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getClientRects().length;
    })"""
    assert set(page.locator("#about td:first-child").evaluate_all(lines)) == {1}
