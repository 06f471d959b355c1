"""The review page as a person sees it in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = '<img src=x onerror="document.title=1">.png'
"""Name of an image of the reviewed run."""


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


def save(page: Any, place: Path) -> Path:
    with page.expect_download() as waiting:
        page.keyboard.press("Control+s")
    waiting.value.save_as(place)
    return place
