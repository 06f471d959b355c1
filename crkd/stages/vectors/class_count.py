"""Estimate of the number of novel classes with a discovery on vectors."""

from __future__ import annotations

from pathlib import Path

from crkd.clustering.class_count.estimate import estimate_class_count
from crkd.core.errors import InputError
from crkd.embedding.plan import EmbedSettings
from crkd.runs.folder import RunFolder
from crkd.stages.discover.class_count import Estimate, notes_of
from crkd.stages.vectors.folders import embedded_folder
from crkd.stages.vectors.run import data_of_run
from crkd.stages.vectors.start import opened_discovery


def estimate_on_vectors(
    parent: str | Path,
    novel: str | Path | None = None,
    *,
    max_classes: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate the number of novel classes in the space of a finished discovery on vectors.

    Args:
        parent: the run.
        novel: folder of unlabeled images, or a file of vectors; None takes those of the run.
        max_classes: largest number to consider.
        seed: of everything drawn.

    Raises:
        InputError: the run, the images or the vectors are unusable.
    """
    run = RunFolder.open(parent)
    found, info = opened_discovery(run), run.read_info()
    if novel is None:
        data = data_of_run(run)
    else:
        file = Path(novel)
        if file.suffix.lower() not in (".parquet", ".npy", ".npz"):
            if info.embedding is None:
                raise InputError(
                    f"{run.path} was made of vectors of unknown origin, so images cannot be "
                    "embedded for it; give a file of vectors with --novel"
                )
            place = run.path.parent / "vectors"
            file = embedded_folder(novel, place, EmbedSettings(), like=info.embedding)
        data = data_of_run(run, str(file))
    rows = found.space.rows(data.of(data.fitted_novel).numpy())
    known = labels = None
    if len(run.read_config().data.features) == 2:
        labeled = data if novel is None else data_of_run(run)
        subset = labeled.fitted_known
        known, labels = found.space.rows(labeled.of(subset).numpy()), subset.labels
    count = estimate_class_count(rows, known, labels, seed=seed, max_classes=max_classes)
    anchors = "none" if known is None else "images"
    notes = notes_of(count, anchors, None, remedy="review the classes of several numbers")
    return Estimate(count, anchors, len(rows), notes)
