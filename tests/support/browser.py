"""Pages in Chromium."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser for many pages; it takes longer to start than most pages are used."""
    from playwright import sync_api

    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, file: Path) -> Iterator[Any]:
    """A page with a storage of its own; any message on the console and any request elsewhere fails.

    Args:
        browser: see :func:`chromium`.
        file: the page.
    """
    said: list[str] = []
    context = browser.new_context()
    try:
        window = context.new_page()
        window.set_default_timeout(8000)
        window.on("console", lambda message: said.append(message.text))
        window.on("pageerror", lambda error: said.append(str(error)))
        window.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
        window.goto(file.as_uri())
        yield window
    finally:
        context.close()
    assert said == []
