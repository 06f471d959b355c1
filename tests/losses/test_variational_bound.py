"""The VID loss as a lower bound on mutual information; docs/variational-bound.md derives it.

Student maps f are Gaussian and teacher maps are t = A f + noise, position by position, so that
the mutual information and every entropy have a closed form.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.core.types import HeadOutputs
from crkd.losses.distillation.vid import MIN_VARIANCE, Vid
from crkd.losses.term import DistillationInputs

DIMENSIONS, CHANNELS = 2, 8
POSITIVE = 6.0  # a mean at which no Gaussian map drawn here is below 0
NORMALIZER = 0.5 * math.log(2 * math.pi)

GENERATOR = np.random.default_rng(0)
MIXING = GENERATOR.normal(size=(CHANNELS, DIMENSIONS)) * 0.7
NOISE = 0.5 + GENERATOR.random(CHANNELS)


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small gain nothing from a second thread, and would wait for it on a busy CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def log_det(matrix: np.ndarray) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def mutual_information(noise_covariance: np.ndarray) -> float:
    """I(f; t) of one position, in nats."""
    return 0.5 * (log_det(MIXING @ MIXING.T + noise_covariance) - log_det(noise_covariance))


def teacher_entropy(noise_covariance: np.ndarray) -> float:
    """H(t) of one position, in nats."""
    total = MIXING @ MIXING.T + noise_covariance
    return 0.5 * (log_det(total) + CHANNELS * math.log(2 * math.pi * math.e))


def student_maps(count: int, generator: torch.Generator, *, offset: float = 0.0) -> torch.Tensor:
    """Gaussian maps with a mean of ``offset``, which carries no information."""
    drawn = torch.randn(count, DIMENSIONS, 4, 4, generator=generator, dtype=torch.float64)
    return drawn + offset


def teacher_maps(student: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    signal = torch.einsum("cd,ndhw->nchw", torch.tensor(MIXING), student)
    return signal + torch.tensor(NOISE).view(1, -1, 1, 1) * noise


def loss_of(term: Vid, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    def outputs(maps: torch.Tensor) -> HeadOutputs:
        return HeadOutputs(
            torch.zeros(1, len(maps), 1), torch.zeros(1, len(maps), 1), maps=((maps,),)
        )

    return term(DistillationInputs(outputs(student), outputs(teacher)))


def bound(term: Vid, noise_covariance: np.ndarray, offset: float = 0.0) -> float:
    """The bound of one position, by the term's own loss.

    The loss is quadratic in t, so its mean over Gaussian noise is its mean over noise of plus and
    minus one deviation: for every drawn f the expectation over t is exact, and the bound holds
    without any sampling error.
    """
    student = student_maps(500, torch.Generator().manual_seed(7), offset=offset)
    with torch.no_grad():
        losses = [
            loss_of(term, student, teacher_maps(student, torch.tensor(sign, dtype=torch.float64)))
            for sign in (1.0, -1.0)
        ]
    surprise = float(sum(losses)) / 2 + NORMALIZER
    return teacher_entropy(noise_covariance) - CHANNELS * surprise


def new_term() -> Vid:
    torch.manual_seed(1)
    return Vid((DIMENSIONS,), (CHANNELS,), init_variance=1.0).double()


def true_term() -> Vid:
    """The term whose Gaussian has mean and variances of p(t | f), where its ReLUs cut nothing."""
    term = new_term()
    regressor = term.regressors[0]
    first, second, third = (regressor.mean[i] for i in (0, 2, 4))
    with torch.no_grad():
        first.weight.copy_(torch.eye(CHANNELS, DIMENSIONS)[..., None, None])
        second.weight.copy_(torch.eye(CHANNELS)[..., None, None])
        third.weight.zero_()
        third.weight[:, :DIMENSIONS, 0, 0] = torch.tensor(MIXING)
        regressor.raw_variance.copy_(torch.tensor(np.log(np.expm1(NOISE**2 - MIN_VARIANCE))))
    return term


INDEPENDENT = np.diag(NOISE**2)


def test_a_trained_bound_stays_below_the_mutual_information_and_comes_close():
    information = mutual_information(INDEPENDENT)
    assert 0.5 < information < 2
    term, generator = new_term(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(term.parameters(), lr=0.02)
    bounds = [bound(term, INDEPENDENT)]
    for step in range(1, 301):
        student = student_maps(64, generator)
        noise = torch.randn(64, CHANNELS, 4, 4, generator=generator, dtype=torch.float64)
        optimizer.param_groups[0]["lr"] = 0.02 * min(1.0, (301 - step) / 150)
        optimizer.zero_grad()
        loss_of(term, student, teacher_maps(student, noise)).backward()
        optimizer.step()
        if step % 30 == 0:
            bounds.append(bound(term, INDEPENDENT))
    assert max(bounds) < information
    assert bounds[0] < 0
    assert bounds[-1] > 0.99 * information


def test_the_bound_is_tight_where_the_gaussian_is_the_true_conditional():
    information = mutual_information(INDEPENDENT)
    assert bound(true_term(), INDEPENDENT, POSITIVE) == pytest.approx(information, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_every_other_gaussian_gives_less(seed: int):
    torch.manual_seed(seed)
    term = true_term()
    with torch.no_grad():
        for parameter in term.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    assert bound(term, INDEPENDENT, POSITIVE) < mutual_information(INDEPENDENT) - 1e-4


def test_a_wrong_variance_costs_its_divergence():
    """KL between Gaussians of one mean, ratio r of variances: (1/r - 1 + log r) / 2 a channel."""
    ratio = 1.7
    term = true_term()
    with torch.no_grad():
        wrong = ratio * NOISE**2 - MIN_VARIANCE
        term.regressors[0].raw_variance.copy_(torch.tensor(np.log(np.expm1(wrong))))
    cost = CHANNELS * 0.5 * (1 / ratio - 1 + math.log(ratio))
    expected = mutual_information(INDEPENDENT) - cost
    assert bound(term, INDEPENDENT, POSITIVE) == pytest.approx(expected, abs=1e-9)


def test_dependence_between_channels_is_what_a_factorized_gaussian_misses():
    """With correlated noise the best gap is the total correlation of t given f."""
    correlation = 0.6 * np.ones((CHANNELS, CHANNELS)) + 0.4 * np.eye(CHANNELS)
    covariance = NOISE[:, None] * correlation * NOISE
    total_correlation = -0.5 * log_det(correlation)
    best = bound(true_term(), covariance, POSITIVE)
    assert total_correlation > 1
    assert best == pytest.approx(mutual_information(covariance) - total_correlation, abs=1e-9)


def test_without_any_dependence_the_best_bound_is_zero():
    """t of independent channels, unrelated to f: the best Gaussian ignores f."""
    term = true_term()
    with torch.no_grad():
        term.regressors[0].mean[4].weight.zero_()
        student = student_maps(50, torch.Generator().manual_seed(3))
        teacher = torch.tensor(NOISE).view(1, -1, 1, 1).expand(50, CHANNELS, 4, 4)
        surprise = float(loss_of(term, student, teacher)) + NORMALIZER
    entropy = 0.5 * np.log(2 * math.pi * math.e * NOISE**2).sum()
    assert entropy - CHANNELS * surprise == pytest.approx(0, abs=1e-9)
