"""Settings without an effect on a discovery on vectors are refused before any image is embedded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from crkd.config.check import plain
from crkd.config.load import load_config, parse_setting
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.fields import shown

READ: Final = (
    *("dataset", "split", "class_order_seed", "seed", "device", "vectors"),
    *("data.validation_fraction", "data.labeled_fraction", "data.subset", "data.skip_unreadable"),
    *("discover.num_novel", "discover.mixed", "discover.precheck", "discover.replay.rank"),
)
"""Settings and blocks that a discovery on vectors reads. It always skips unreadable images."""
READ_BY_STUDENT: Final = (
    *("loop", "evaluation", "distill", "data.storage", "data.stored_share"),
    *("model.batch_norm_per_view", "pretrain.view", "pretrain.num_views"),
)
"""Settings and blocks that a student takes from the configuration of such a discovery."""


def check_settings(config: Config, words: Sequence[str], *, long_tail: bool) -> None:
    """Refuse a setting that neither the discovery nor a student of it would read.

    Args:
        config: of a discovery on vectors.
        words: the ``KEY=VALUE`` of each ``--set``; the data set among them is not in ``config``.
        long_tail: whether ``data.imbalance`` is read, as in a discovery with labeled vectors.

    Raises:
        InputError: such a setting is not at its default.
    """
    for word in words:
        if parse_setting(word).get("dataset", config.dataset) != config.dataset:
            raise InputError(
                f"--set {word} names a data set, and this discovery is on feature vectors; leave "
                "it out, or give --dataset in place of the images or vectors"
            )
    read = (*READ, *READ_BY_STUDENT, *(("data.imbalance",) if long_tail else ()))
    defaults = dict(_settings(plain(load_config(flags={"dataset": config.dataset}))))
    for key, value in _settings(plain(config)):
        if value == defaults[key] or any(f"{key}.".startswith(f"{name}.") for name in read):
            continue
        raise InputError(
            f"{key} is {shown(value)}, but a discovery on feature vectors does not read it; leave "
            "it out"
        )


def _settings(values: Mapping[str, Any], block: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every setting in nested blocks."""
    for key, value in values.items():
        if isinstance(value, Mapping) and key != "options":
            yield from _settings(value, f"{block}{key}.")
        else:
            yield f"{block}{key}", value
