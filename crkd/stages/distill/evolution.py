"""Regularized evolution over a finite space of networks.

Real, Aggarwal, Huang and Le, "Regularized Evolution for Image Classifier Architecture Search",
AAAI 2019, algorithm 1: the best of a random sample has a child, and the oldest member dies.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

Depths = tuple[int, int, int]


def evolve(
    space: Sequence[Depths],
    score: Callable[[Depths], float],
    *,
    population: int,
    sample: int,
    evaluations: int,
    seed: int,
) -> dict[Depths, float]:
    """Return the scores of the members looked at, in the order in which they were.

    A child differs from its parent in one stage. A score never changes, so a child is always one
    that was not looked at before: the search ends, at the latest with the whole space.

    Args:
        space: all members.
        score: the larger, the better.
        population: members alive at a time; the first ones are drawn at random.
        sample: how many of them are drawn to find a parent.
        evaluations: how many members to look at; from the size of the space on, it is all.
        seed: of all draws.
    """
    generator = random.Random(seed)
    alive = deque(generator.sample(space, min(population, evaluations, len(space))))
    scores = {member: score(member) for member in alive}
    while len(scores) < min(evaluations, len(space)):
        drawn = generator.sample(list(alive), min(sample, len(alive)))
        parent = max(drawn, key=scores.__getitem__)
        fresh = [member for member in space if member not in scores]
        children = [member for member in fresh if _differing_stages(member, parent) == 1]
        child = generator.choice(children or fresh)
        scores[child] = score(child)
        alive.append(child)
        alive.popleft()
    return scores


def _differing_stages(one: Depths, other: Depths) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))
