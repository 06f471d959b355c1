from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from crkd.core.errors import InputError
from crkd.losses.soft_labels import label_mode, log_probabilities
from tests.support import ROOT

PAGE = ROOT / "docs" / "distillation.md"
NAMES = (
    "hard",
    "smoothed",
    "marginal_smoothing_k5",
    "marginal_smoothing_k10",
    "marginal_renorm_k5",
    "full_float16",
    "full_float32",
)
EXACT = [name for name in NAMES if name != "full_float16"]


def probabilities(seed: int, *shape: int, scale: float = 4.0) -> torch.Tensor:
    make = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=make) * scale).softmax(dim=-1)


def there_and_back(name: str, given: torch.Tensor) -> torch.Tensor:
    mode = label_mode(name, given.shape[-1])
    return mode.expand(mode.compress(given))


def formula(name: str, p: np.ndarray) -> np.ndarray:
    """Output of the release's loader for its label files, one float64 vector at a time."""
    k = int(name.rsplit("_k", 1)[1]) if "_k" in name else 1
    best = sorted(range(len(p)), key=lambda c: -p[c])[:k]
    if name == "hard":
        return np.arange(len(p)) == best[0]
    if name.startswith("full"):
        return p
    kept = {c: p[c] for c in best}
    if name.startswith("marginal_renorm"):
        return np.array([kept.get(c, 0.0) / sum(kept.values()) for c in range(len(p))])
    rest = (1 - sum(kept.values())) / (len(p) - k)
    return np.array([kept.get(c, rest) for c in range(len(p))])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [11, 100, 300, 33000])
def test_against_the_formula(name: str, classes: int):
    given = probabilities(0, 2, 3, classes)
    found = there_and_back(name, given).double().numpy()
    for place in np.ndindex(2, 3):
        expected = formula(name, given[place].double().numpy())
        close = 1.1e-2 if name == "full_float16" else 1e-5
        np.testing.assert_allclose(found[place], expected, rtol=close, atol=1e-7)


@pytest.mark.parametrize("name", ["smoothed", "marginal_smoothing_k5", "marginal_smoothing_k10"])
def test_what_was_kept_comes_back_bit_by_bit(name: str):
    given = probabilities(1, 50, 20)
    mode = label_mode(name, 20)
    index = mode.compress(given)["index"].long()
    assert torch.equal(mode.expand(mode.compress(given)).gather(-1, index), given.gather(-1, index))


@settings(deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(11, 40),
    st.floats(0.01, 300.0),
    st.integers(0, 2**31),
)
def test_labels_are_distributions_and_stable(name: str, classes: int, scale: float, seed: int):
    once = there_and_back(name, probabilities(seed, 4, classes, scale=scale))
    torch.testing.assert_close(once.sum(dim=-1), torch.ones(4), atol=2e-6, rtol=0)
    assert (once >= 0).all()
    twice = there_and_back(name, once)
    torch.testing.assert_close(twice, once, atol=1e-6, rtol=1e-5)


@settings(deadline=None)
@given(st.integers(2, 300), st.floats(0.1, 20.0), st.integers(0, 2**31))
def test_half_precision_errs_in_proportion_to_the_distance_from_the_best(
    classes: int, scale: float, seed: int
):
    """The stated rounding: log p errs by 2^-11 of its own and the mean distance from the best."""
    logits = torch.randn(8, classes, generator=torch.Generator().manual_seed(seed)) * scale
    exact = logits.double().log_softmax(dim=-1)
    found = log_probabilities(there_and_back("full_float16", exact.exp().float())).double()
    gap = exact.amax(dim=-1, keepdim=True) - exact
    reach = gap < 80  # below, probabilities leave the range of float32
    mean = (exact.exp() * gap).sum(dim=-1, keepdim=True)
    allowed = 1.01 * 2**-11 * (gap + mean) + 1e-5
    assert ((found - exact).abs() <= allowed)[reach].all()


@pytest.mark.parametrize("name", EXACT)
def test_the_best_class_stays_the_best(name: str):
    given = probabilities(2, 100, 12)
    assert torch.equal(there_and_back(name, given).argmax(-1), given.argmax(-1))


def test_k_is_general():
    given = probabilities(3, 5, 9)
    found = there_and_back("marginal_smoothing_k8", given)
    torch.testing.assert_close(found, given, msg="one class left gets all that is left")


def test_half_precision_logits_and_autocast_change_nothing():
    given = probabilities(4, 3, 30).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = there_and_back("marginal_smoothing_k5", given)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, there_and_back("marginal_smoothing_k5", given.float()))


@pytest.mark.parametrize("name", NAMES)
def test_zeros_have_a_finite_logarithm_that_keeps_the_distribution(name: str):
    label = there_and_back(name, torch.eye(12))
    logs = log_probabilities(label)
    assert logs.isfinite().all()
    torch.testing.assert_close(logs.softmax(dim=-1), label, atol=1e-6, rtol=0)


def file_size(name: str, classes: int, count: int) -> float:
    """Bytes per label of a real file, its header apart."""
    record = label_mode(name, classes).compress(probabilities(5, count, classes))
    content = save(record)
    return (len(content) - 8 - int.from_bytes(content[:8], "little")) / count


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [20, 100, 256, 257, 1000])
def test_bytes_of_a_file_are_those_of_the_formula(name: str, classes: int):
    assert file_size(name, classes, 64) == label_mode(name, classes).bytes_per_label


def test_the_documented_sizes_are_those_of_files():
    text = PAGE.read_text()
    table = text[text.index("| `hard` |") :]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+ \| [\d,]+) \|$", table, re.M))
    assert set(rows) == set(NAMES)
    for name, cells in rows.items():
        stated = [int(cell.replace(",", "")) for cell in cells.split(" | ")]
        assert stated == [file_size(name, classes, 64) for classes in (100, 1000)]


@pytest.mark.parametrize("name", ["marginal_smoothing_k5", "marginal_renorm_k5"])
@pytest.mark.parametrize("classes", [3, 5])
def test_keeping_every_class_is_refused(name: str, classes: int):
    with pytest.raises(InputError, match=rf"{name}.*keeps 5 of {classes} .*choose full_float16"):
        label_mode(name, classes)
    assert label_mode(name, 6).bytes_per_label == 25


def test_one_class_cannot_be_smoothed():
    with pytest.raises(InputError, match="'smoothed' keeps 1 of 1"):
        label_mode("smoothed", 1)
    assert there_and_back("hard", torch.ones(2, 1)).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("name", ["ori", "marginal_smoothing_k0", "marginal_renorm", "k5", ""])
def test_unknown_modes_are_named(name: str):
    with pytest.raises(InputError, match=f"label_mode '{name}' is unknown; choose one of: hard"):
        label_mode(name, 10)


def test_the_smallest_whole_number_holds_every_class():
    for classes in (256, 257, 2**15, 2**15 + 1):
        last = torch.zeros(classes)
        last[-1] = 1
        assert there_and_back("hard", last)[-1] == 1
    assert math.isclose(label_mode("hard", 2**15).bytes_per_label, 2)
