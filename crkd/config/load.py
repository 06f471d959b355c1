"""Loading of a configuration from files, ``--set key=value`` and flags."""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from crkd.config.check import build, is_text, plain, written
from crkd.config.schema import Config
from crkd.core.errors import InputError, listed
from crkd.core.paths import shipped

MAX_BYTES = 1 << 20
FOLDERS = ("presets", "datasets", "experiments")
"""Folders of the shipped configurations, in the order in which a name is looked up."""


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_NULL = ("", "~", "null", "Null", "NULL")


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, which other YAML readers drop silently.

    As in YAML 1.2, only ``true`` and ``false`` are booleans, because ``on`` is an option's name,
    and neither ``010`` nor ``1:30`` is a number to another base.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        letter: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:bool" or letter in "tTfF"]
        for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        if tag in _NUMBERS and (":" in value or re.fullmatch("[-+]?0[0-7_]+", value)):
            return self.DEFAULT_SCALAR_TAG
        return tag

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise InputError(
                    f"configuration key {key!r} in line {key_node.start_mark.line + 1} "
                    f"is not text; put it in quotes"
                )
            if key in seen:
                raise InputError(
                    f"duplicate configuration key {key!r} in line "
                    f"{key_node.start_mark.line + 1}; keep one of the two"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise InputError("YAML aliases (*name) are not allowed; write the value out")
        return super().compose_node(parent, index)


def parse_yaml(text: str, origin: str) -> Any:
    """Parse YAML ``text``; ``origin`` names it in messages.

    Raises:
        InputError: broken YAML, a duplicate key, an alias or a tag.
    """
    try:
        # Those who change what they get must not change it for others.
        return copy.deepcopy(_parsed(text))
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{origin} is not readable as YAML: {reason}; correct the file") from None


@functools.lru_cache(maxsize=128)
def _parsed(text: str) -> Any:
    """Parse a text once: the runs of a plan or sweep read the same files and settings."""
    return yaml.load(text, _StrictLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a block of keys; an empty file is an empty block.

    Raises:
        InputError: the file is missing, too large, not text, or not a block of keys.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"--config {path} is larger than {MAX_BYTES} bytes; is it the file?")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} cannot be read ({error}); give a YAML file") from None
    values = parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(
            f"{path} holds {written(values)}; it must hold a block of 'key: value' lines"
        )
    return values


def read_layers(path: Path) -> dict[str, Any]:
    """Read a configuration file, merged into the files that its key ``extends`` names, if any.

    A file may extend one that extends another, to any depth. A path is relative to the file that
    names it; anything else is the name of a shipped configuration.

    Raises:
        InputError: a file is missing or wrong, or files extend each other.
    """
    chain = [path]
    values = read_yaml(path)
    while (name := values.pop("extends", None)) is not None:
        below = _extended(chain[-1], name)
        if any(below.samefile(file) for file in chain):
            places = ", which extends ".join(str(file) for file in [*chain, below])
            raise InputError(f"{places}, so that none is the first; remove an 'extends'")
        chain.append(below)
        values = merge(read_yaml(below), values)
    return values


def _extended(path: Path, name: object) -> Path:
    """Return the file that ``extends: NAME`` in the file ``path`` means."""
    if not isinstance(name, str):
        raise InputError(f"{path} extends {written(name)}; name one file or shipped configuration")
    near = path.parent / name
    found = near if near.is_file() else shipped_config(name)
    if found is None:
        raise InputError(
            f"{path} extends {name!r}, which is neither a file next to it ({near}) nor a shipped "
            f"configuration; shipped: {_shipped_names()}"
        )
    return found


def config_folder() -> Path:
    """Return the folder of the shipped configurations."""
    return shipped("configs")


def shipped_configs(folder: str) -> list[Path]:
    """Return the shipped configuration files of a folder such as "presets", sorted."""
    return sorted((config_folder() / folder).glob("*.yaml"))


def find_config(name: str) -> Path:
    """Return the file for ``--config NAME``: a path, or the stem of a shipped configuration."""
    path = Path(name)
    found = path if path.is_file() else shipped_config(name)
    if found is None:
        raise InputError(
            f"--config {name!r} is neither a file nor a shipped configuration; "
            f"shipped: {_shipped_names()}"
        )
    return found


def shipped_config(name: str, folders: Sequence[str] = FOLDERS) -> Path | None:
    """Return the shipped configuration of a name, with or without its ending, or None.

    Args:
        name: without a folder.
        folders: of the shipped configurations, in the order of the look-up.
    """
    for folder in folders if os.sep not in name else ():
        file = config_folder() / folder / f"{name.removesuffix('.yaml')}.yaml"
        if file.is_file():
            return file
    return None


def _shipped_names() -> str:
    names = sorted({path.stem for folder in FOLDERS for path in shipped_configs(folder)})
    return listed(names, 40)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``over``; blocks merge, other values are replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict) and key != "options"
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def parse_setting(setting: str) -> dict[str, Any]:
    """Turn one ``--set a.b=value`` into nested blocks; the value is read as YAML.

    The value of a key that is text is taken as it is, unless it is null or in quotes.

    >>> parse_setting("discover.epochs=3")
    {'discover': {'epochs': 3}}
    >>> parse_setting("data.known=photos #2")
    {'data': {'known': 'photos #2'}}
    """
    key, sign, text = setting.partition("=")
    if not sign or not key.strip():
        raise InputError(f"--set {setting!r} has no '='; write --set key=value")
    word = text.strip()
    plain_text = is_text(Config, key.strip()) and word not in _NULL and word[0] not in "'\""
    value: Any = word if plain_text else parse_yaml(text, f"--set {setting!r}")
    for name in reversed(key.strip().split(".")):
        value = {name: value}
    return value  # type: ignore[no-any-return]


def load_config(
    file: str | None = None,
    settings: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    base: Config | None = None,
) -> Config:
    """Build the configuration of a run.

    Later sources override earlier ones: schema defaults, the shipped
    ``configs/datasets/DATASET.yaml``, ``file``, ``settings``, ``flags``. A ``base`` replaces the
    first two.

    Args:
        file: ``--config``, a path or the stem of a shipped file.
        settings: ``key=value`` strings of ``--set``.
        flags: nested values of the command's other flags; None values are dropped.
        base: configuration of an earlier run to continue.

    Raises:
        InputError: see :func:`crkd.config.check.build`.
    """
    given = read_layers(find_config(file)) if file else {}
    # The expected results of an experiment (experiments.py) are not part of the run.
    given.pop("experiment", None)
    for setting in settings:
        given = merge(given, parse_setting(setting))
    given = merge(given, _without_none(flags or {}))
    if base is not None:
        return build(Config, merge(plain(base), given))
    dataset = given.get("dataset", Config().dataset)
    base_file = config_folder() / "datasets" / f"{dataset}.yaml"
    is_name = isinstance(dataset, str) and dataset.replace("-", "").isalnum()
    shipped = read_layers(base_file) if is_name and base_file.is_file() else {}
    # Lists of blocks are replaced as a whole; blocks merge, so a file states only differences.
    return build(Config, merge(plain(Config()), merge(shipped, given)))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, value in values.items():
        inner = _without_none(value) if isinstance(value, Mapping) else value
        if inner is not None and inner != {}:
            kept[key] = inner
    return kept


def dump_config(config: Config) -> str:
    """Return the resolved configuration as YAML text that :func:`load_config` reads back."""
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
