"""The discovery that the flags of ``crkd discover`` ask for; flags of the other are refused."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from crkd.core.errors import InputError

if TYPE_CHECKING:
    from crkd.runs.folder import RunInfo

EMBEDDING: Final[Mapping[str, str]] = {
    "backbone": ", or use --set model.backbone=NAME",
    "backbone_weights": ", or use --weights FILE",
    "runtime": "",
    "method": ", or use --set discover.method=NAME",
}
"""Flags that a training does not read, and what it has in their place."""


def uses_vectors(given: argparse.Namespace) -> bool:
    """Return whether the flags ask for a discovery on vectors.

    Raises:
        InputError: flags of both kinds of discovery are given.
    """
    if given.features is not None:
        _check_features(given)
        return True
    if given.parent is not None:
        from crkd.runs.folder import RunFolder

        info = RunFolder.open(given.parent).read_info()
        if info.on_vectors:
            _check_extension(given, info)
            return True
    if (reason := _training(given)) is not None:
        _check_training(given, reason)
        return False
    _check_own_images(given)
    return True


def check_parent(given: argparse.Namespace) -> None:
    """Refuse ``--pretrain``, which looks for a run to start from, where ``--from`` names it.

    Raises:
        InputError: both are given.
    """
    if given.parent is not None and given.pretrain:
        raise InputError(
            f"--pretrain trains a stage 1 to start from, and --from {given.parent} names the run; "
            "leave one of them out"
        )


def refuse_with_features(given: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse flags that do not apply to files of vectors.

    Args:
        given: parsed flags of :func:`crkd.commands.flags.add_config_flags`, among others.
        names: further flags of the verb; those that give or read images are refused by every verb.

    Raises:
        InputError: one of the flags is given.
    """
    images = ("dataset", "data_root", "known", "novel", "image_size", "weights", "download")
    _refuse(given, (*images, "skip_unreadable", *names), "--features")


def _training(given: argparse.Namespace) -> str | None:
    """Return why a network is trained, as a clause; None if own images are embedded."""
    if given.parent is not None:
        return f"--from {given.parent} is a run with a network"
    for name in ("dataset", "train_backbone"):
        if _is_given(given, name):
            return f"{_flag(name)} trains a network"
    if given.known is None and given.novel is None:
        return "discover trains a network without --novel DIR"
    return None


def _check_training(given: argparse.Namespace, reason: str) -> None:
    for name, instead in EMBEDDING.items():
        if _is_given(given, name):
            raise InputError(
                f"{_flag(name)} is for own images that a pretrained network embeds, and "
                f"{reason}; leave it out{instead}"
            )
    check_parent(given)


def _check_own_images(given: argparse.Namespace) -> None:
    for name in ("config", "pretrain", "weights"):
        if _is_given(given, name):
            raise InputError(
                f"{_flag(name)} is for the training of a backbone; add --train-backbone, or leave "
                "it out to use a pretrained one"
            )
    _refuse_data_root(given)


def _check_extension(given: argparse.Namespace, info: RunInfo) -> None:
    names = ("known", "dataset", "config", "pretrain", "train_backbone", "weights")
    _refuse(given, names, "--from")
    _refuse_data_root(given)
    form = (info.embedding or {}).get("form")
    made = form.get("runtime") if isinstance(form, dict) else None
    if made is not None and given.runtime not in (None, "auto", made):
        raise InputError(
            f"--runtime is {given.runtime}, but the run in --from was made with {made}; leave it "
            "out"
        )


def _check_features(given: argparse.Namespace) -> None:
    others = ("pretrain", "config", "backbone", "backbone_weights", "runtime", "train_backbone")
    refuse_with_features(given, others)
    count = len(given.features)
    if given.parent is not None and count != 1:
        raise InputError(
            f"--features has {count} files; give 1: NOVEL, because --from holds the known classes"
        )
    if count > 2:
        raise InputError(f"--features has {count} files; give 2, KNOWN NOVEL, or NOVEL alone")


def _refuse_data_root(given: argparse.Namespace) -> None:
    if given.data_root is not None:
        raise InputError(
            f"--data-root {given.data_root!r} is the folder of named data sets, and this discovery "
            "reads none; leave it out"
        )


def _refuse(given: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    for name in names:
        if _is_given(given, name):
            raise InputError(
                f"{_flag(name)} does not go with {reason} of feature vectors; leave one of them out"
            )


def _is_given(given: argparse.Namespace, name: str) -> bool:
    value = getattr(given, name)
    return value is not None and value is not False


def _flag(name: str) -> str:
    return "--from" if name == "parent" else f"--{name.replace('_', '-')}"
