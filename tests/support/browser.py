"""Pages in Chromium."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A page in a browser; any message on the console and any request elsewhere fails the test."""
    from playwright import sync_api

    said: list[str] = []
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window = browser.new_page()
        window.set_default_timeout(8000)
        window.on("console", lambda message: said.append(message.text))
        window.on("pageerror", lambda error: said.append(str(error)))
        window.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
        window.goto(file.as_uri())
        yield window
        browser.close()
    assert said == []
