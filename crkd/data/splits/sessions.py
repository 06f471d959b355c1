"""Samples of each session of a plan: class-incremental, or mixed as in continual discovery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError
from crkd.core.shuffle import stable_shuffle
from crkd.data.splits.members import members_of

Rows = NDArray[np.int64]


class SessionSizes(NamedTuple):
    """Samples of a class in a mixed session.

    Attributes:
        new: of each new class.
        old: of each class of an earlier session, base classes among them.
    """

    new: int
    old: int


def parse_session(text: str) -> SessionSizes:
    """Return the sizes of a text such as "400-25".

    Raises:
        InputError: it is not two whole numbers above 0, joined by a hyphen.

    >>> parse_session("400-25")
    SessionSizes(new=400, old=25)
    """
    parts = text.split("-")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and int(p) for p in parts):
        raise InputError(
            f"--session is {text!r}; write the samples of each new and of each old class, such as "
            "400-25"
        )
    return SessionSizes(int(parts[0]), int(parts[1]))


def sessions(
    labels: Rows,
    sizes: Sequence[int],
    *,
    labeled_fraction: float,
    mixed: SessionSizes | None,
    seed: int,
    labeled_seed: int | None = None,
) -> list[Rows]:
    """Return the samples of the base session and of every further session.

    Without ``mixed``, a session has all samples of its new classes. With it, the protocol is that
    of continual generalized category discovery (Ma et al., "Happy", NeurIPS 2024): a session has
    some samples of its new classes and a few of every class before. Those of base classes are drawn
    from the samples without labels, those of discovered classes from all; a sample may come in
    several sessions.

    Args:
        labels: ``(N,)`` classes in the order of the plan, -1 for other classes.
        sizes: number of classes of each session, the base session first.
        labeled_fraction: of the samples of each base class, in (0, 1].
        mixed: sizes of a mixed session.
        seed: of all draws.
        labeled_seed: of the choice of labeled samples; None takes ``seed``.

    Returns:
        Ascending positions; those of the base session are the labeled ones.

    Raises:
        InputError: a class has too few samples.
    """
    places = []
    first_seed = seed if labeled_seed is None else labeled_seed
    for label, members in enumerate(members_of(labels, np.arange(sum(sizes)))):
        places.append(members[stable_shuffle(len(members), first_seed, stream=label)])
    base = range(sizes[0])
    counts = [max(1, round(labeled_fraction * len(places[label]))) for label in base]
    found = [np.sort(np.concatenate([places[label][: counts[label]] for label in base]))]
    pools = [places[label][counts[label] :] for label in base] + places[sizes[0] :]
    seen = sizes[0]
    for number, size in enumerate(sizes[1:], start=1):
        drawn = []
        for label in range(seen + size):
            wanted = len(pools[label])
            if mixed is not None:
                wanted = mixed.old if label < seen else mixed.new
                _check_pool(len(pools[label]), wanted, label < sizes[0])
            elif label < seen:
                continue
            order = stable_shuffle(len(pools[label]), seed, stream=label + 100_000 * number)
            drawn.append(pools[label][order[:wanted]])
        found.append(np.sort(np.concatenate(drawn)))
        seen += size
    return found


def _check_pool(available: int, wanted: int, is_base: bool) -> None:
    if available >= wanted:
        return
    if is_base:
        raise InputError(
            f"a base class has {available} samples without a label, and --session asks for "
            f"{wanted}; lower data.labeled_fraction or the number"
        )
    raise InputError(
        f"a class has {available} samples, and --session asks for {wanted}; lower the number"
    )
