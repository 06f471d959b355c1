"""Pointwise mutual information of neighbors: what clustering heads are trained on.

Adaloglou, Michels, Kalisch and Kollmann, "Exploring the Limits of Deep Image Clustering using
Pretrained Models", BMVC 2023 (TEMI): the loss of equations 4 to 6, with the exponent b on the
product of the two predictions and with weights that are a mean over heads.
"""

from __future__ import annotations

from torch import Tensor

from crkd.core.errors import InputError


def pair_weights(first: Tensor, second: Tensor) -> Tensor:
    """Return how far the teachers' heads hold two rows to be of one class, ``(B,)`` in [0, 1].

    ``w = 1/H sum_h sum_c q_h(c|x) q_h(c|x')``

    Args:
        first: ``(H, B, M)`` probabilities of the rows x.
        second: ``(H, B, M)`` probabilities of their neighbors x'.
    """
    return (first * second).sum(dim=-1).mean(dim=0)


def responsibilities(
    student: Tensor, teacher: Tensor, marginal: Tensor, exponent: float
) -> tuple[Tensor, Tensor]:
    """Return which class explains a pair, and how well the classes explain it.

    Args:
        student: ``(H, B, M)`` log-probabilities of x.
        teacher: ``(H, B, M)`` log-probabilities of its neighbor x'.
        marginal: ``(H, M)`` shares of the classes, above 0.
        exponent: b, above 0.

    Returns:
        r ``(H, B, M)`` with rows that sum to one, ``r_c ~ (q_s(c|x) q_t(c|x'))^b / p(c)``, and the
        logarithm ``(H, B)`` of their sum before scaling.
    """
    terms = exponent * (student + teacher) - marginal.log().unsqueeze(1)
    information = terms.logsumexp(dim=-1)
    return (terms - information.unsqueeze(-1)).exp(), information


def temi(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    marginal: Tensor,
    *,
    exponent: float = 0.6,
) -> Tensor:
    """Return the loss of every head, ``(H,)``.

    It is::

        L_h = mean over pairs of -w/2 (log sum_c (q_s(c|x) q_t(c|x'))^b / p_h(c)
                                     + log sum_c (q_s(c|x') q_t(c|x))^b / p_h(c))

    An exponent below 1 spreads the rows over the classes: at 1 one class may take all of them.

    Args:
        student: ``(H, B, M)`` logits of x and of x', divided by their temperature.
        teacher: the teacher's logits; no gradient reaches them.
        marginal: ``(H, M)`` shares of the classes by the teacher, above 0.
        exponent: b, above 0.

    Raises:
        InputError: the exponent is out of its range.

    >>> import torch
    >>> sure = torch.tensor([[[40.0, 0.0], [0.0, 40.0]]])
    >>> temi((sure, sure), (sure, sure), torch.full((1, 2), 0.5))
    tensor([-0.6931])
    """
    if not exponent > 0:
        raise InputError(f"exponent is {exponent}; give a number above 0")
    ours = [logits.log_softmax(dim=-1) for logits in student]
    theirs = [logits.detach().log_softmax(dim=-1) for logits in teacher]
    weights = pair_weights(theirs[0].exp(), theirs[1].exp())
    there = responsibilities(ours[0], theirs[1], marginal, exponent)[1]
    back = responsibilities(ours[1], theirs[0], marginal, exponent)[1]
    return -(weights * (there + back) / 2).mean(dim=1)
