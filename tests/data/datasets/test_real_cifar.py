"""Known answers on the real files of CIFAR, which are decoded once for all tests here."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from crkd.data.check_dataset import check_dataset
from crkd.data.datasets.base import Dataset, load_dataset
from crkd.data.splits.class_split import load_split
from tests.support import ROOT

SHARED = ROOT / "../shared/data"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


@pytest.fixture(scope="module")
def cifar100() -> Dataset:
    dataset = load_dataset("cifar100", SHARED)
    # From here on, the source reads its images from the decoded ones.
    dataset.train.pixels()
    return dataset


@pytest.mark.slow
def test_cifar100_has_the_official_pixels_and_statistics(cifar100: Dataset) -> None:
    pixels = cifar100.train.pixels()
    assert pixels is not None
    assert pixels.shape == (50_000, 3, 32, 32)
    official = "de64658905c6b161606e3649ddafce7cf86c7634a0cf9116d518e64ef46a33c5"
    assert hashlib.sha256(pixels).hexdigest() == official
    assert np.bincount(cifar100.train.labels).tolist() == [500] * 100
    assert cifar100.test is not None
    assert np.bincount(cifar100.test.labels).tolist() == [100] * 100
    levels = np.arange(256)
    for channel, (mean, std) in enumerate(zip(cifar100.mean, cifar100.std, strict=True)):
        shares = np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, 0].size
        assert shares @ levels / 255 == pytest.approx(mean, abs=1e-7)
        variance = shares @ (levels - shares @ levels) ** 2
        assert np.sqrt(variance) / 255 == pytest.approx(std, abs=1e-7)
    np.testing.assert_array_equal(cifar100.train.read(123), pixels[123].transpose(1, 2, 0))
    assert cifar100.note == ""


def test_cifar100_has_its_known_flaws(cifar100: Dataset) -> None:
    found = check_dataset(cifar100, load_split("cifar100"))
    assert found.usable
    assert len(found.shared_pixels) == 10
    assert [len(part.duplicates) for part in found.parts] == [14, 2]


def test_the_copy_of_cifar10_says_that_it_is_one() -> None:
    dataset = load_dataset("cifar10", SHARED)
    assert "JPEG" in dataset.note
    assert np.bincount(dataset.train.labels).tolist() == [5000] * 10
