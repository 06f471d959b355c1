"""The page in a real browser: what a person does there is what the new run answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from crkd.commands.main import run_verb
from crkd.inference.predict import predict
from crkd.inference.table import read

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


@pytest.fixture
def page(discovered: tuple[Path, Path], tmp_path: Path) -> Iterator[Any]:
    """The review page of the run; any message on the console fails the test."""
    out = tmp_path / "review.html"
    assert run_verb("review", [str(discovered[0]), "--out", str(out)]) == 0
    said: list[str] = []
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
        opened.goto(out.as_uri())
        yield opened
        browser.close()
    assert said == []


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
    shown = page.locator("#detail .thumb img")
    assert shown.count() == page.locator("#detail .thumb").count() > 0
    assert shown.evaluate_all("all => all.every((one) => one.complete && one.naturalWidth > 0)")
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


def test_split_move_and_a_taken_name(
    page: Any, discovered: tuple[Path, Path], tmp_path: Path
) -> None:
    page.keyboard.press("s")
    assert page.locator(".halves .thumb").count() > 0
    page.keyboard.press("j")
    first, second = (page.locator("#detail .thumb").nth(n) for n in (0, 1))
    ids = [one.locator("img").get_attribute("alt") for one in (first, second)]
    first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("o")
    second.click()
    page.select_option("#target", label="novel-2")
    page.locator("#name").fill("A")
    assert "is taken by a known class" in page.locator("#problem").text_content()
    page.locator("#name").fill("pear")
    content = json.loads(save(page, tmp_path / "decisions.json").read_text())
    assert content["images"] == [{"id": ids[0], "to": None}, {"id": ids[1], "to": 4}]
    split, accept = content["classes"]
    assert (split["action"], split["names"]) == ("split", ["novel-0 a", "novel-0 b"])
    assert accept == {"id": 3, "action": "accept", "name": "pear"}
    command = [str(discovered[0]), str(tmp_path / "decisions.json")]
    assert run_verb("apply-review", [*command, "--out", str(tmp_path / "named")]) == 0


def test_what_was_decided_survives_a_reload(page: Any) -> None:
    page.keyboard.press("x")
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    assert page.locator("#progress").text_content() == "1 of 4 decided"
    assert page.title() == "4 discovered classes in folder", "no file name was run as code"


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
    page.keyboard.press("2")
    page.locator("#plane").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#point img").evaluate("one => one.naturalWidth") == 18
