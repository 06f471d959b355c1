"""Altered copies of ``run.json``: one or two entries replaced, removed or added."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    99,
    0.5,
    10**7,
    10**9,
    2**70,
    -(2**63),
    float("inf"),
    float("nan"),
    "",
    "x",
    "novel",
    "a" * 300,
    "../../etc/passwd",
    "nul\0byte",
    "\ud800",
    "\u202e[red]<b>",
    [],
    {},
    [None],
    [[]],
    ["a"] * 3,
    [-1, 0, 1],
    [1e308] * 3,
    {"a": {}},
)
BY_NAME: dict[str, tuple[Any, ...]] = {
    "backbone": (
        "cifar_resnet_999999999-1-1",
        "cifar_resnet_200-200-200x4",
        "timm:vit_giant_patch14_224",
        "timm:eva_giant_patch14_560",
        "timm:hf-hub:someone/model",
        "resnet50",
        "vectors",
        "crkd.core",
    ),
    "kind": ("known", "baseline", "supervised", "distilled"),
    "status": ("running", "failed"),
    "image_size": (4096, 8192, 10**5),
    "hidden": (10**6, 10**9),
    "projection": (10**6,),
    "num_heads": (3, 1000, 10**7),
    "groups": ([1], [1] * 1000, [10**9]),
    "reviews": ([[0, 0, 1, 1]], [[-7, 0]], [[10**9]], [[0] * 10]),
    "chosen_head": (99, -1, True),
}
Path_ = tuple[str | int, ...]


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every entry below a value."""
    entries: Any = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for name, below in entries:
        yield (*path, name)
        yield from places(below, (*path, name))


def altered(original: dict[str, Any], seed: int) -> tuple[str, str]:
    """Return a description of the change, and the text of the altered file."""
    random = np.random.default_rng(seed)
    values = copy.deepcopy(original)
    # Entries of the top and the architecture as often as all names of classes together.
    everywhere = list(places(values))
    main = [path for path in everywhere if len(path) == 1 or path[0] == "architecture"]
    changes = []
    for _ in range(int(random.integers(1, 3))):
        pool = main if random.random() < 0.6 else everywhere
        path = pool[random.integers(len(pool))]
        changes.append(_change(values, path, random))
    return "; ".join(changes), json.dumps(values)


def _change(values: Any, path: Path_, random: np.random.Generator) -> str:
    place = values
    for name in path[:-1]:
        try:
            place = place[name]
        except (KeyError, IndexError, TypeError):
            return "nothing"
    last = path[-1]
    inside = isinstance(place, dict) or (
        isinstance(place, list) and isinstance(last, int) and last < len(place)
    )
    if not inside:
        return "nothing"
    way = random.random()
    shown = ".".join(map(str, path))
    if way < 0.08 and last in (place if isinstance(place, dict) else range(len(place))):
        del place[last]
        return f"{shown} removed"
    if way < 0.14 and isinstance(place, dict):
        place[f"{last}_"] = 1
        return f"{shown}_ added"
    own = BY_NAME.get(str(last), ())
    pool = own if own and random.random() < 0.5 else ODD
    new = pool[random.integers(len(pool))]
    place[last] = copy.deepcopy(new)
    return f"{shown} = {ascii(new)[:60]}"
