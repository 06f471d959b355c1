"""Predictions of any method, from a file with the columns id, prediction, label and part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError
from crkd.evaluation.predictions import MAX_CLASSES, PARTS
from crkd.runs.column_file import Column, missing_column, read_columns

PREDICTIONS: Final = "--predictions"
LABELS: Final = "--labels"
KNOWN_CLASSES: Final = "--known-classes"
LARGEST_LIST: Final = 4 << 20
"""Most bytes of a list of known classes."""
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"-?[0-9]+\.0*")

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MethodOutputs:
    """Outputs and labels of N images.

    Attributes:
        prediction: ``(N,)`` output ids from 0.
        label: ``(N,)`` class ids, -1 if unknown.
        part: N times "train" or "test".
        names_parts: whether the file names the parts.
        num_known: K.
    """

    prediction: Ids
    label: Ids
    part: list[str]
    names_parts: bool
    num_known: int


def read_outputs(
    predictions: str | Path,
    known: int | str | Path,
    *,
    labels: str | Path | None = None,
    clusters_only: bool = False,
) -> MethodOutputs:
    """Read a file of predictions.

    Whole numbers as predictions are output ids; 0 to K - 1 are the known classes in their order.
    Text is a name: of a known class, or of a cluster.

    Args:
        predictions: CSV, NPZ or Parquet file with the columns ``prediction``, ``label`` (if
            ``labels`` does not give it), ``part`` ("train" or "test"; all images are "train"
            without it) and ``id`` (unique; only needed for ``labels``).
        known: K, if labels are class ids with the known classes first; 0 without known classes,
            and labels may be names then; else a text file with the label of each known class in a
            line, in the order of the outputs.
        labels: file with the columns ``id`` and ``label``.
        clusters_only: predictions are numbers or names of clusters, and none is a known class.

    Raises:
        InputError: a file cannot be used; the sentence names the file, the value and the remedy.
    """
    file = Path(predictions)
    columns, present = read_columns(
        file, ("id", "prediction", "label", "part"), option=PREDICTIONS, empty=["label"]
    )
    if "prediction" not in columns:
        raise missing_column(PREDICTIONS, file, "prediction", present)
    if not len(columns["prediction"]):
        raise InputError(f"{PREDICTIONS} {str(file)!r} has no row; give one for each image")
    ids = _ids(columns["id"], PREDICTIONS, file) if "id" in columns else None
    if labels is not None:
        if "label" in columns:
            raise InputError(f"{PREDICTIONS} {str(file)!r} has labels; leave out {LABELS}")
        if ids is None:
            raise missing_column(PREDICTIONS, file, "id", present)
        columns["label"] = _joined(ids, Path(labels))
    if "label" not in columns:
        raise missing_column(PREDICTIONS, file, "label", present)
    if isinstance(known, int):
        # Without known classes, classes and clusters need no order, so both may be names.
        num_known = known
        names: Sequence[str] | None = None if known else ()
    else:
        names = read_class_list(Path(known))
        num_known = len(names)
    label = _label_ids(columns["label"], names, file if labels is None else Path(labels))
    prediction = (
        _cluster_ids(columns["prediction"], file)
        if clusters_only
        else _output_ids(columns["prediction"], names, file)
    )
    part = _parts(columns.get("part"), len(prediction), file)
    return MethodOutputs(prediction, label, part, "part" in columns, num_known)


def read_class_list(file: Path) -> list[str]:
    """Return the known classes of a text file, one in a line; empty lines are left out.

    Raises:
        InputError: the file is missing, no UTF-8 text, empty, too long, or names a class twice.
    """
    if not file.is_file():
        raise InputError(f"{KNOWN_CLASSES} {str(file)!r} is not a file; check the path")
    if file.stat().st_size > LARGEST_LIST:
        raise InputError(
            f"{KNOWN_CLASSES} {str(file)!r} has more than {LARGEST_LIST >> 20} MiB; give one "
            "class in a line"
        )
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{KNOWN_CLASSES} {str(file)!r} is no UTF-8 text; convert it") from None
    names = [line.strip() for line in lines if line.strip()]
    if not 1 <= len(names) < MAX_CLASSES:
        raise InputError(
            f"{KNOWN_CLASSES} {str(file)!r} names {len(names)} classes; give at least one and "
            f"fewer than {MAX_CLASSES}"
        )
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"{KNOWN_CLASSES} {str(file)!r} names {twice!r} twice; remove one")
    return names


def _ids(column: Column, option: str, file: Path) -> list[str]:
    ids = [str(value) for value in column]
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise InputError(f"{option} {str(file)!r} has the id {twice!r} twice; make ids unique")
    return ids


def _joined(ids: Sequence[str], file: Path) -> Column:
    columns, present = read_columns(file, ("id", "label"), option=LABELS, empty=["label"])
    for name in ("id", "label"):
        if name not in columns:
            raise missing_column(LABELS, file, name, present)
    row = {name: number for number, name in enumerate(_ids(columns["id"], LABELS, file))}
    missing = [name for name in ids if name not in row]
    if missing:
        raise InputError(
            f"{LABELS} {str(file)!r} has no row for {len(missing):,} of {len(ids):,} images, such "
            f"as {missing[0]!r}; add them, with an empty label where there is none"
        )
    return columns["label"][[row[name] for name in ids]]


def _whole_numbers(column: Column) -> Ids | None:
    """Return a column as whole numbers, -1 for empty cells; None if a cell is another text."""
    if column.dtype != object:
        return column
    if not all(not text or _WHOLE.fullmatch(text) for text in column):
        return None
    return np.array([int(text) if text else -1 for text in column], dtype=np.int64)


def _no_number(column: Column, name: str, file: Path, remedy: str) -> InputError:
    """Return the refusal of a column with other text than whole numbers."""
    text = next(text for text in column if text and not _WHOLE.fullmatch(text))
    problem = "is not a whole number"
    if _DECIMAL.fullmatch(text):
        # pandas writes a column of integers with empty cells so.
        problem = "has a decimal point"
        remedy = "write whole numbers; pandas does so for the dtype 'Int64', also with empty cells"
    return InputError(f"the {name} {text!r} of {str(file)!r} {problem}; {remedy}")


def _label_ids(column: Column, known: Sequence[str] | None, file: Path) -> Ids:
    if known is None:
        numbers = _whole_numbers(column)
        if numbers is None:
            remedy = (
                f"list the known classes in a file and give {KNOWN_CLASSES} FILE instead of "
                "--num-known"
            )
            raise _no_number(column, "label", file, remedy)
        return numbers
    texts = ["" if text in ("", "-1") else text for text in map(str, column)]
    if known and not set(texts) & set(known):
        raise InputError(
            f"no label of {str(file)!r} is one of the classes of {KNOWN_CLASSES}, such as "
            f"{known[0]!r}; write them as the labels are written"
        )
    number = {"": -1} | _numbered(texts, known)
    return np.array([number[text] for text in texts], dtype=np.int64)


def _output_ids(column: Column, known: Sequence[str] | None, file: Path) -> Ids:
    numbers = _whole_numbers(column)
    if numbers is not None:
        if numbers.min() < 0:
            raise InputError(
                f"the prediction {numbers.min()} of {str(file)!r} is below 0; give output ids from "
                "0, or add --clusters if they are names of clusters"
            )
        return numbers
    if known is None:
        remedy = (
            f"give {KNOWN_CLASSES} FILE if known outputs have the names of their classes, or add "
            "--clusters if no output is a known class"
        )
        raise _no_number(column, "prediction", file, remedy)
    number = _numbered(column.tolist(), known)
    return np.array([number[text] for text in column], dtype=np.int64)


def _numbered(texts: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Return the number of each name: known classes in their order, then all others by name."""
    others = sorted(set(texts) - set(known) - {""})
    return {name: number for number, name in enumerate([*known, *others])}


def _cluster_ids(column: Column, file: Path) -> Ids:
    numbers = _whole_numbers(column)
    clusters, ids = np.unique(column if numbers is None else numbers, return_inverse=True)
    if len(clusters) > MAX_CLASSES:
        raise InputError(
            f"{PREDICTIONS} {str(file)!r} has {len(clusters):,} clusters; at most {MAX_CLASSES:,} "
            "are matched"
        )
    return ids.astype(np.int64)


def _parts(column: Column | None, num_images: int, file: Path) -> list[str]:
    if column is None:
        return ["train"] * num_images
    parts = [str(value) for value in column]
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise InputError(
            f"{PREDICTIONS} {str(file)!r} has {unknown[0]!r} in the column 'part'; write 'train' "
            "for unlabeled training images and 'test'"
        )
    return parts
