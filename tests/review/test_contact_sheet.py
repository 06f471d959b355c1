from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.commands.main import run_verb
from crkd.review import run_outputs
from crkd.review.class_summaries import FoundClass, found_classes
from crkd.review.contact_sheet import IMAGES, SIDE, caption, strip
from crkd.review.run_outputs import gather

CPU = torch.device("cpu")
COLORS = ((230, 40, 40), (40, 230, 40), (40, 40, 230), (220, 220, 60))


def test_a_strip_shows_the_images_of_its_class_and_white_where_there_are_none(discovered):
    evidence = gather(discovered[0], CPU)
    for color, entry in zip(COLORS, found_classes(evidence), strict=True):
        pixels = strip(evidence.images, entry.members)
        assert pixels.shape == (SIDE, SIDE * IMAGES, 3)
        places = pixels.reshape(SIDE, IMAGES, SIDE, 3).swapaxes(0, 1)
        shown = min(len(entry.members), IMAGES)
        for place in places[:shown]:
            # 18 pixels make 64 with a border of at most one on either side.
            assert np.abs(place[2:-2, 2:-2].mean((0, 1)) - color).max() < 20
        assert (places[shown:] == 255).all()


def test_an_image_that_is_missing_stays_white(discovered, monkeypatch: pytest.MonkeyPatch):
    evidence = gather(discovered[0], CPU)
    part = evidence.images
    missing = dataclasses.replace(part, source=type(part.source).__new__(type(part.source)))
    missing.source.__dict__.update(part.source.__dict__)
    missing.source.paths = [Path("/nowhere") / "x.png"] * len(part.source.paths)
    assert (strip(missing, np.arange(4)) == 255).all()


def test_a_caption_says_how_many_and_like_what():
    names = ["cat", "$dog$", "novel-0"]
    entry = FoundClass(2, np.arange(1), [(1, 0.75), (0, 0.25)], None)
    assert caption(entry, names) == ("novel-0: 1 image", "like $dog$ 75%, cat 25%")
    empty = FoundClass(2, np.arange(0), [], None)
    assert caption(empty, names) == ("novel-0: 0 images", "")


def test_the_command_draws_a_picture_of_the_outputs_of_the_page(
    discovered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page, picture = tmp_path / "page.html", tmp_path / "classes.png"
    opened, first = [], run_outputs.open_run
    monkeypatch.setattr(run_outputs, "open_run", lambda *a: opened.append(a) or first(*a))
    wanted = [str(discovered[0]), "--out", str(page), "--picture", str(picture), "--device", "cpu"]
    assert run_verb("review", wanted) == 0
    assert len(opened) == 1, "the images passed the network once"
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for color in COLORS:
        near = (np.abs(pixels - color).max(axis=1) < 30).mean()
        assert near > 0.02, f"{color} covers {near:.3f} of the picture"
