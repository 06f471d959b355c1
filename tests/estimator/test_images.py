"""Images in memory: the statistics of their pixels."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from crkd.estimator import images
from crkd.estimator.images import image_source, pixel_statistics


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Return images whose channels differ in mean and contrast."""
    draw = np.random.default_rng(count)
    levels = draw.normal((60.0, 130.0, 200.0), (20.0, 50.0, 5.0), (count, height, width, 3))
    return levels.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("at_once", [1, 100, 2**16])
@pytest.mark.parametrize("channels_last", [True, False])
def test_statistics_are_those_of_all_pixels(
    at_once: int, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "PIXELS_AT_ONCE", at_once)
    pixels = pictures(11, 5, 7)
    source = image_source(pixels if channels_last else pixels.transpose(0, 3, 1, 2))
    mean, std = pixel_statistics(source)
    flat = pixels.reshape(-1, 3).astype(np.float64) / 255
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, flat.std(axis=0), rtol=1e-12)
    for channel in range(3):
        values = [Fraction(level) for level in pixels[..., channel].reshape(-1).tolist()]
        middle = sum(values) / len(values)
        variance = sum((value - middle) ** 2 for value in values) / len(values)
        assert mean[channel] == float(middle) / 255
        assert std[channel] == pytest.approx(float(variance) ** 0.5 / 255, rel=4e-16)


def test_a_channel_without_contrast_keeps_its_scale() -> None:
    pixels = np.full((4, 3, 5, 3), 255, np.uint8)
    pixels[..., 1] = 51
    mean, std = pixel_statistics(image_source(pixels))
    assert mean == (1.0, 0.2, 1.0)
    assert std == (1 / 255,) * 3


def test_the_statistics_need_less_memory_than_the_images() -> None:
    source = image_source(pictures(300, 64, 64))
    tracemalloc.start()
    try:
        pixel_statistics(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300 * 64 * 64 * 3 / 2
