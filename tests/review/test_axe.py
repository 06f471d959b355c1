"""No rule of axe is violated, in any part of the page and with thumbnails in either place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crkd.commands.main import run_verb
from tests.support.browser import CHROMIUM, opened

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip(
    "axe_playwright_python.base", reason="axe-playwright-python is not installed"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

RUN = """async () => {
    const found = await axe.run(document, { resultTypes: ['violations'] });
    return found.violations.map((one) => [one.id, ...one.nodes.map((node) => node.html)]);
}"""
STATES = {
    "#grid .thumb": "",
    ".part-box": "s",
    "#plane": "2",
    "#confusion": "3",
    "#about pre": "4",
    "#viewer": "1 i Space Enter",
    "#keys": "Escape ?",
}
"""Parts of the page, and the keys that lead to each of them from the one before."""


@pytest.mark.parametrize(("embedded", "scheme"), [(40, "light"), (4000, "dark")])
def test_axe_finds_no_violation(
    embedded: int,
    scheme: str,
    discovered: tuple[Path, Path],
    browser: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crkd.review.page.EMBEDDED", embedded)
    out = tmp_path / "review.html"
    assert run_verb("review", [str(discovered[0]), "--out", str(out)]) == 0
    assert out.with_suffix(".files").exists() == (embedded == 40)
    with opened(browser, out) as page:
        page.emulate_media(color_scheme=scheme)
        page.evaluate(axe.AXE_SCRIPT)
        found = {}
        for part, keys in STATES.items():
            for key in keys.split():
                page.keyboard.press(key)
            assert page.locator(part).first.is_visible()
            found[part] = page.evaluate(RUN)
        assert found == {part: [] for part in STATES}
        # It would find one.
        page.evaluate("document.querySelector('#undo').removeAttribute('aria-label')")
        page.evaluate("document.querySelector('#undo').removeAttribute('title')")
        page.evaluate("document.querySelector('#undo').textContent = ''")
        page.keyboard.press("Escape")
        assert [rule[0] for rule in page.evaluate(RUN)] == ["button-name"]
