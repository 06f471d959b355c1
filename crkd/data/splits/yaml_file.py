"""YAML file of a class split, read strictly as untrusted input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from crkd.core.atomic_write import whole_file
from crkd.core.errors import InputError, listed

MAX_BYTES: Final = 4 * 1024 * 1024
_TEXTS: Final = ("dataset", "name", "source")
_OPTIONAL: Final = ("label_hash", "source")
_FIELDS: Final = ("dataset", "name", "source", "class_names", "known", "novel", "label_hash")


class _StrictLoader(yaml.SafeLoader):
    """Loader of plain values without tags and aliases, which could expand to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"the key {listed(sorted(twice))} appears twice")
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Dumper with short lists on one line and quotes only where needed."""


def read_fields(path: Path) -> dict[str, Any]:
    """Return the checked fields of a split file, ready for ``ClassSplit``.

    Raises:
        InputError: the file is missing, larger than 4 MiB, not YAML, or has unknown, missing or
            mistyped fields.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"the split file {str(path)!r} is larger than 4 MiB; it is not a split"
            )
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise InputError(
            f"cannot read the split file {str(path)!r}: {error.strerror}; name a split or a file"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"the split file {str(path)!r} is not plain YAML: {reason}; correct it"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"the split file {str(path)!r} holds no fields; see docs/data.md")
    _check_keys(content, path)
    return {name: _value(name, value, path) for name, value in content.items()}


def write_fields(path: Path, fields: Mapping[str, Any]) -> None:
    """Write the fields of a split to ``path`` atomically.

    Raises:
        InputError: the file cannot be written.
    """
    ordered = {name: fields[name] for name in _FIELDS}
    for name in ("known", "novel", "class_names"):
        ordered[name] = list(ordered[name])
    text = yaml.dump(
        ordered,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )
    try:
        with whole_file(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write the split to {str(path)!r}: {error.strerror}; choose another place"
        ) from error


def _check_keys(content: dict[Any, Any], path: Path) -> None:
    unknown = [key for key in content if key not in _FIELDS]
    missing = [key for key in _FIELDS if key not in content and key not in _OPTIONAL]
    if unknown or missing:
        raise InputError(
            f"the split file {str(path)!r} has the unknown fields [{listed(unknown)}] and lacks "
            f"[{listed(missing)}]; its fields are {listed(_FIELDS)}"
        )


def _value(name: str, value: Any, path: Path) -> Any:
    """Return one field in the type of ``ClassSplit``, or raise."""
    if name in _TEXTS and isinstance(value, str):
        return value
    if name == "label_hash" and _is_mapping_of_text(value):
        return value or {}
    if name == "class_names" and _is_list_of(value, str):
        return tuple(value)
    if name in ("known", "novel") and _is_list_of(value, int):
        return tuple(value)
    wanted = {
        "class_names": "a list of texts (quote names such as 'no' or '12')",
        "known": "a list of whole numbers",
        "novel": "a list of whole numbers",
        "label_hash": "texts under the keys train, test, train/sorted or test/sorted",
    }.get(name, "a text")
    raise InputError(f"the field {name!r} of the split file {str(path)!r} is not {wanted}; fix it")


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _is_mapping_of_text(value: Any) -> bool:
    if value is None:
        return True
    keys = {"train", "test", "train/sorted", "test/sorted"}
    return isinstance(value, dict) and all(
        key in keys and isinstance(text, str) for key, text in value.items()
    )
