"""Options of a distillation term, as the types of its constructor."""

from __future__ import annotations

from collections.abc import Sequence
from types import GenericAlias, NoneType, UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from crkd.config.blocks import TermConfig
from crkd.config.check import convert
from crkd.losses.term import TERMS

_SINGLE: Final = (float, int, bool, str)


def typed_options(settings: TermConfig) -> dict[str, Any]:
    """Return the options of a term as its constructor annotates them, like keys of a configuration.

    Unknown options stay as they are, and so do those whose annotation is another type or cannot be
    resolved.

    Raises:
        InputError: an option has another type, or there is no such term.

    >>> typed_options(TermConfig("kd", options={"temperature": "1e-1"}))
    {'temperature': 0.1}
    """
    try:
        types = get_type_hints(TERMS.get(settings.name).__init__)
    except NameError:
        # A plug-in may import the types of its annotations for a type checker alone.
        types = {}
    return {
        name: _typed(types.get(name), value, f"{settings.name} option {name}")
        for name, value in settings.options.items()
    }


def _typed(expected: Any, value: object, key: str) -> Any:
    kinds = get_args(expected) if get_origin(expected) is UnionType else (expected,)
    if value is None and NoneType in kinds:
        return None
    lists = [get_args(kind)[0] for kind in kinds if get_origin(kind) is Sequence]
    singles = [kind for kind in kinds if kind in _SINGLE]
    if lists and (isinstance(value, list | tuple) or not singles):
        return convert(GenericAlias(tuple, (lists[0], ...)), value, key)
    return convert(singles[0], value, key) if singles else value
