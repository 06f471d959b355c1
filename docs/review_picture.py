"""Picture of the review page, of the example run with a few decisions.

``python docs/review_picture.py`` writes ``docs/images/review.png``. It needs Playwright and
Chromium.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from crkd.inference.example import RUN
from crkd.review.page import review

PICTURE = Path(__file__).resolve().parent / "images" / "review.png"
SIZE = {"width": 1360, "height": 860}


def main() -> None:
    """Write the page, decide on three classes and take the picture."""
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as folder, sync_playwright() as player:
        # The page shows the path of the run as it is given.
        os.chdir(folder)
        run = Path(shutil.copytree(RUN, "runs/digits"))
        review(run, Path("review.html"), device=torch.device("cpu"))
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = player.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(Path("review.html").absolute().as_uri())
        decide(page)
        page.screenshot(path=PICTURE)
        browser.close()


def decide(page: Any) -> None:
    """Name two classes, split a third one, and select five of its images."""
    rows = page.locator("#list [data-id]")
    numbers = [row.get_attribute("data-id") for row in rows.all()]
    for number, name in zip(numbers, ("six", "five"), strict=False):
        page.locator(f"#list [data-id='{number}']").click()
        page.locator("#name").fill(name)
        page.locator("#name").press("Enter")
    page.locator(f"#list [data-id='{numbers[4]}']").click()
    page.keyboard.press("s")
    page.locator("#grid .thumb").nth(2).click()
    page.locator("#grid .thumb").nth(6).click(modifiers=["Shift"])


if __name__ == "__main__":
    main()
