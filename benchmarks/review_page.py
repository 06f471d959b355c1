"""The review page of many images in Chromium: time to open, frames while scrolling, search.

The browser has no window, so frames are those that its compositor draws; pictures are 96 pixels
wide. The page of ``benchmarks/people.py`` is written first, which is not a part of the times.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.people import made_up_evidence, untrained_run
from benchmarks.rows import row
from crkd.core.errors import InputError
from crkd.review.page import write_page

IMAGES = 100_000
SIDE = 96
REPEATS = 3

_row = partial(row, "review-page")

# Scrolls at 1,200 pixels a second and returns the times between frames in milliseconds.
SCROLL = """([element, pixels]) => new Promise((resolve) => {
  const times = [], box = document.querySelector(element), from = box.scrollTop;
  const start = performance.now();
  const step = (now) => {
    times.push(now);
    const done = now - start;
    box.scrollTop = from + 1.2 * done;
    if (done < pixels / 1.2) requestAnimationFrame(step);
    else resolve(times.slice(1).map((time, n) => time - times[n]));
  };
  requestAnimationFrame(step);
})"""

# Presses a key and returns the milliseconds until the next frame is drawn.
PRESS = """(key) => new Promise((resolve) => {
  const start = performance.now();
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
  document.activeElement.dispatchEvent(event);
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start), 0));
})"""


def rows(images: int = IMAGES, pixels: int = 8000) -> Iterator[dict[str, Any]]:
    """Write the page and yield what the browser needs for it.

    Args:
        images: number of images behind the page.
        pixels: length of a scroll through the images.

    Raises:
        InputError: Playwright or Chromium is missing.
    """
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None
    )
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise InputError("bench review-page needs Playwright; install the extra 'dev'") from None
    if browser is None:
        raise InputError("bench review-page needs Chromium; install it")
    with TemporaryDirectory() as folder, sync_playwright() as player:
        file = Path(folder) / "page.html"
        run = untrained_run(Path(folder) / "run")
        counts = write_page(made_up_evidence(run, images, "smooth pictures", SIDE), file)
        name = f"{images:,} images of {SIDE} px"
        yield _row("MB", f"{name}, HTML file", file.stat().st_size / 1e6)
        yield _row("MB", f"{name}, with the folder of thumbnails", counts["bytes"] / 1e6)
        chromium = player.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        opened = [_opened(chromium, file) for _ in range(REPEATS)]
        yield _row("s", f"{name}, until the first images are drawn", min(opened))
        window = chromium.new_page(viewport={"width": 1280, "height": 800})
        window.goto(file.as_uri())
        yield from _used(window, name, pixels)
        chromium.close()


def _opened(chromium: Any, file: Path) -> float:
    """Return the seconds from the address to drawn images in a fresh window."""
    window = chromium.new_page(viewport={"width": 1280, "height": 800})
    window.goto(file.as_uri())
    seconds = window.evaluate(
        "new Promise((resolve) => requestAnimationFrame(() => "
        "setTimeout(() => resolve(performance.now() / 1000), 0)))"
    )
    window.close()
    return float(seconds)


def _used(window: Any, name: str, pixels: int) -> Iterator[dict[str, Any]]:
    """Yield rows about scrolling through all images, search, selection and the map."""
    window.locator("[data-kind=all]").click()
    for order in ("by class", "most doubtful first"):
        window.select_option("#order", label=order)
        # The best of several times, as other processes take time from the browser.
        runs = [window.evaluate(SCROLL, ["#detail", pixels]) for _ in range(REPEATS)]
        times = sorted(min(runs, key=lambda run: sum(run) / len(run)))
        measured = f"{name}, scrolling through all, {order}"
        yield _row("frames/s", measured, 1000 * len(times) / sum(times))
        yield _row("ms", f"{measured}, 99 % of the frames take less", times[int(0.99 * len(times))])
    window.locator("#grid").focus()
    yield _row("ms", f"{name}, 200 nearest images of one", window.evaluate(PRESS, "n"))
    window.evaluate(PRESS, "Escape")
    yield _row("ms", f"{name}, acceptance of a class", window.evaluate(PRESS, "a"))
    yield _row("ms", f"{name}, split of a class", window.evaluate(PRESS, "s"))
    yield _row("ms", f"{name}, map of all images", window.evaluate(PRESS, "2"))
    heap = window.evaluate("performance.memory.usedJSHeapSize")
    yield _row("MB", f"{name}, heap of the page", heap / 1e6)
