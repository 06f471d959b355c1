"""Pointwise mutual information of neighbors: the loss of clustering heads on vectors.

Adaloglou, Michels, Kalisch and Kollmann, "Exploring the Limits of Deep Image Clustering using
Pretrained Models", BMVC 2023 (TEMI): the loss of equations 4 to 6, with the exponent b on the
product of the two predictions and with weights that are a mean over heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crkd.core.errors import InputError


def temi_gradient(
    logits: Tensor, marginal: Callable[[Tensor], Tensor], exponent: float
) -> tuple[Tensor, Tensor]:
    """Return the loss of every head and its gradient, in closed form.

    The loss is::

        L_h = mean over pairs of -w/2 (log sum_c (q_s(c|x) q_t(c|x'))^b / p_h(c)
                                     + log sum_c (q_s(c|x') q_t(c|x))^b / p_h(c))
        w = 1/H sum_h sum_c q_t(c|x) q_t(c|x')

    An exponent below 1 spreads the rows over the classes: at 1 one class may take all of them. The
    weight w of a pair says how far the teachers' heads hold its rows to be of one class.

    The gradient with respect to the student's logits is ``b w (q - r)`` over the number of rows.
    The responsibilities r say which class explains a pair: ``r_c ~ (q_s(c|x) q_t(c|x'))^b / p(c)``.
    Classes are the first dimension, because a sum over few classes is fast only there.

    Args:
        logits: ``(M, 2, H, 2 B)`` of student and teacher, divided by their temperature, first of
            all x and then of all x'; overwritten.
        marginal: gets the mean ``(M, H)`` of the teacher's probabilities, and returns the shares
            ``(M, H)`` of the classes, above 0.
        exponent: b, above 0.

    Returns:
        Losses ``(H,)`` and their gradient ``(M, H, 2 B)``.

    Raises:
        InputError: the exponent is out of its range.

    >>> sure = torch.tensor([[40.0, 0.0], [0.0, 40.0]]).repeat(1, 2).view(2, 1, 1, 4)
    >>> temi_gradient(sure.repeat(1, 2, 1, 1), lambda mean: mean, 0.6)[0]
    tensor([-0.6931])
    """
    if not exponent > 0:
        raise InputError(f"exponent is {exponent}; give a number above 0")
    student, teacher = logits.unbind(1)
    evidence = exchanged(teacher).add_(student).mul_(exponent)
    log_sums, teacher_log_sums = softmax_(logits)
    first, second = teacher.chunk(2, dim=-1)
    weights = (first * second).sum(dim=0).mean(dim=0)
    weights = torch.cat([weights, weights]).div_(logits.shape[-1])
    evidence.sub_(marginal(teacher.mean(dim=-1)).log().unsqueeze(-1))
    information = softmax_(evidence) - exponent * (log_sums + exchanged(teacher_log_sums))
    return -(information @ weights), (student - evidence).mul_(exponent * weights)


def softmax_(logits: Tensor) -> Tensor:
    """Overwrite logits by their softmax over the first dimension.

    Args:
        logits: ``(M, ...)``, finite.

    Returns:
        Logarithms ``(...)`` of the sums of exponentials.
    """
    largest = logits.amax(dim=0)
    sums = logits.sub_(largest).exp_().sum(dim=0)
    logits.div_(sums)
    return sums.log_().add_(largest)


def exchanged(pairs: Tensor) -> Tensor:
    """Return ``(..., 2 B)`` with the two halves in each other's place."""
    return pairs.roll(pairs.shape[-1] // 2, dims=-1)
