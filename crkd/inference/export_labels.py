"""Labels of a discovery as files for labeling tools."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.core.paths import readable
from crkd.data.encoded.listing import shown_path
from crkd.data.sources.files import image_files, readable_id
from crkd.data.vectors.embedding_file import read_info
from crkd.evaluation.predictions_file import load_predictions
from crkd.inference.rows import DIGITS, UNSURE, class_labels
from crkd.inference.table import PredictedImage, read
from crkd.runs.atomic_files import write_json
from crkd.runs.disputed import read_probabilities
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.reviewed_labels import read_labels
from crkd.runs.vector_files import vector_files


def export_labels(
    path: str | Path,
    form: str,
    out: Path | None = None,
    *,
    predictions: Path | None = None,
    known_too: bool = False,
    prefix: str = "/data/local-files/?d=",
    root: Path = Path("/"),
) -> tuple[list[Path], int]:
    """Write the images of discovered classes for a labeling tool.

    Args:
        path: the run folder.
        form: "labelstudio" or "fiftyone".
        out: the file; None is ``labelstudio.json`` or ``fiftyone.json`` in the run folder.
        predictions: rows that ``predict`` wrote; None takes the run's own unlabeled images.
        known_too: also images that the model gave a known class.
        prefix: Label Studio: text before the path of an image.
        root: Label Studio: the folder that ``prefix`` means.

    Returns:
        The files written, and the number of images in them.

    Raises:
        InputError: the run or the rows are unusable, or there is no image to write.
    """
    if form == "labelstudio" and out is not None and out.suffix.lower() == ".xml":
        raise InputError(
            f"--out {str(out)!r} is where the labeling configuration would be; let it end in .json"
        )
    run = RunFolder.open(path)
    names = class_labels(run.read_info().classes)
    rows: Sequence[PredictedImage] = (
        trained_images(run) if predictions is None else read(predictions)
    )
    unknown = {row.class_name for row in rows} - set(names)
    if unknown:
        raise InputError(
            f"--predictions {predictions} names the class {min(unknown)!r}, which {run.path} does "
            "not have; give rows that this run predicted"
        )
    chosen = [
        row
        for row in rows
        if known_too or row.kind == "novel" or (isinstance(row, TrainedImage) and row.reviewed)
    ]
    if not chosen:
        raise InputError(
            f"{predictions or run.path} holds no image of a discovered class; --all also takes "
            "images of known classes"
        )
    target = out or run.path / f"{form}.json"
    if form == "fiftyone":
        write_json(target, fiftyone_labels(chosen, names))
        return [target], len(chosen)
    model = (run.read_info().model_sha256 or "")[:12]
    write_json(target, label_studio_tasks(chosen, f"crkd-{model}", prefix=prefix, root=root))
    config = target.with_suffix(".xml")
    write_bytes(config, label_studio_config(names).encode())
    return [target, config], len(chosen)


@dataclass(frozen=True)
class TrainedImage(PredictedImage):
    """Label of one unlabeled training image of a run.

    Attributes:
        by_person: whether a person chose the class for this image.
        reviewed: whether the class results from a review.
        disputed: the known class of the joint prediction, where the image has a novel class; None
            where both agree.
    """

    by_person: bool = False
    reviewed: bool = False
    disputed: str | None = None


def trained_images(run: RunFolder) -> list[TrainedImage]:
    """Return what a run says of its own unlabeled training images, which must be files.

    Each image has its novel class; with ``--mixed`` it has the class of the joint prediction. In a
    reviewed run, an image has the class of the review, and images of no class are left out.
    Confidence is as the run recorded it, without a temperature.

    Raises:
        InputError: the run used no image files, has no novel head, or a file is missing.
    """
    info = run.read_info()
    if info.chosen_head is None:
        raise InputError(f"{run.path} has no novel head; give --predictions FILE")
    files = _image_files(run, info)
    table = load_predictions(run.path / "predictions.parquet")
    rows, names = list[TrainedImage](), class_labels(info.classes)
    mixed, shares = run.read_config().mixed, read_probabilities(run)
    reviewed = read_labels(run)
    for n in np.flatnonzero(table.of("train")):
        if table.id[n] not in files:
            raise InputError(
                f"{table.id[n]!r} is no longer among the images of {run.path}; restore it, or "
                "give --predictions FILE"
            )
        joint = int(table.joint_heads[info.chosen_head, n])
        confidence, disputed = float(table.confidence[n]), None
        if joint < info.num_known and not mixed:
            disputed = names[joint]
            joint = info.num_known + int(table.novel_heads[info.chosen_head, n])
            # Without the file of the run, at most the rest is left for the novel class.
            confidence = shares.get(table.id[n], 1.0 - confidence)
        label = reviewed.get(table.id[n])
        if label is not None:
            # A known class that no person chose is the model's prediction, not a result of the
            # review.
            if label.class_id is None and (label.by_person or joint >= info.num_known):
                continue
            joint = joint if label.class_id is None else label.class_id
            disputed = None if label.by_person or joint < info.num_known else disputed
        confidence = round(confidence, DIGITS)
        rows.append(
            TrainedImage(
                path=readable(files[table.id[n]]),
                kind=info.classes[joint].kind,
                class_id=joint,
                class_name=names[joint],
                confidence=confidence,
                calibrated=False,
                unsure=confidence < UNSURE,
                head_agreement=None,
                top={names[joint]: confidence},
                nearest_known={},
                by_person=label is not None and label.by_person,
                reviewed=label is not None and label.class_id is not None,
                disputed=disputed,
            )
        )
    return rows


def _disputed(row: PredictedImage) -> str | None:
    return row.disputed if isinstance(row, TrainedImage) else None


def _image_files(run: RunFolder, info: RunInfo) -> dict[str, Path]:
    """Return the image file of each id of the run's unlabeled images.

    Raises:
        InputError: the run used no image files, or their folder is missing.
    """
    config = run.read_config()
    folders = {} if config.data.novel is None else {"novel/": config.data.novel}
    unknown = info.on_vectors and info.embedding is None
    if config.dataset == "features" and not unknown:
        roots = read_info(Path(vector_files(run)[-1])).roots
        folders = {f"{root.name}/": root.path for root in roots}
    if not folders:
        raise InputError(f"{run.path} discovered nothing in image files; give --predictions FILE")
    places = {prefix: shown_path(folder) for prefix, folder in folders.items()}
    # Images of tar files and tables are not files; some may be among the labeled ones alone.
    found = {prefix: place for prefix, place in places.items() if place.is_dir()}
    if not found:
        raise InputError(
            f"{next(iter(folders.values()))!r}, the unlabeled images of {run.path}, is not here; "
            "run this where discovery ran, or give --predictions FILE"
        )
    return {
        f"{prefix}{readable_id(file, place)}": file
        for prefix, place in found.items()
        for file in image_files(place)
    }


def label_studio_tasks(
    rows: Sequence[PredictedImage], model_version: str, *, prefix: str, root: Path
) -> list[dict[str, Any]]:
    """Return Label Studio's basic JSON: one task an image, the class as a prediction.

    Args:
        rows: the images.
        model_version: under which Label Studio files the predictions.
        prefix: text before the path, whose special characters are percent-encoded.
        root: the folder that ``prefix`` means.

    Raises:
        InputError: an image is outside ``root``.
    """
    tasks, top = [], os.path.abspath(root)
    for number, row in enumerate(rows):
        place = Path(os.path.abspath(row.path))
        if not place.is_relative_to(top):
            raise InputError(f"{row.path!r} is outside --root {str(root)!r}; name a folder above")
        below = place.relative_to(top).as_posix()
        choice = {
            "id": f"image-{number}",
            "type": "choices",
            "from_name": "class",
            "to_name": "image",
            "value": {"choices": [row.class_name]},
        }
        tasks.append(
            {
                "data": {
                    "image": prefix + quote(below),
                    "path": row.path,
                    "kind": row.kind,
                    "decided_by": _decided_by(row),
                    "disputed": _disputed(row),
                },
                "predictions": [
                    {"model_version": model_version, "score": row.confidence, "result": [choice]}
                ],
            }
        )
    return tasks


def _decided_by(row: PredictedImage) -> str:
    """Return who chose the class of an image: "person" or "model"."""
    return "person" if isinstance(row, TrainedImage) and row.by_person else "model"


def label_studio_config(names: Sequence[str]) -> str:
    """Return the labeling configuration that the tasks need, with every class as a choice."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in names)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="class" toName="image" choice="single">\n{choices}  </Choices>\n</View>\n'
    )


def fiftyone_labels(rows: Sequence[PredictedImage], names: Sequence[str]) -> dict[str, Any]:
    """Return ``labels.json`` of a FiftyOneImageClassificationDataset, with confidences.

    Images are named by absolute paths, so that none has to be copied.
    """
    number = {name: label for label, name in enumerate(names)}
    labels = {
        os.path.abspath(row.path): {
            "label": number[row.class_name],
            "confidence": row.confidence,
            "attributes": {
                "kind": row.kind,
                "calibrated": row.calibrated,
                "unsure": row.unsure,
                "nearest_known": ", ".join(row.nearest_known),
                "decided_by": _decided_by(row),
                "disputed": _disputed(row),
            },
        }
        for row in rows
    }
    return {"classes": list(names), "labels": labels}
