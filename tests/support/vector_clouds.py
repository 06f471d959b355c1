"""Files of vectors of clouds far apart, and configurations on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crkd.config.load import load_config
from crkd.config.schema import Config

KNOWN, NOVEL, EACH, WIDTH = 4, 3, 30, 12
KMEANS = "vectors.method=whitened_kmeans"


def clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of clouds far apart, and their classes."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(KNOWN + NOVEL, WIDTH)) * 4
    classes = np.arange(KNOWN + NOVEL).repeat(EACH)
    noise = np.random.default_rng(seed).normal(size=(len(classes), WIDTH))
    return (centers[classes] + noise).astype(np.float32), classes


def save(file: Path, rows: np.ndarray, labels: list[str] | None) -> None:
    columns = {"f": pa.array(list(rows), pa.list_(pa.float32(), rows.shape[1]))}
    if labels is not None:
        columns["label"] = pa.array(labels)
    pq.write_table(pa.table(columns), file)


def config_of(files: list[str], *settings: str, **flags: object) -> Config:
    given = {"dataset": "features", "data": {"features": files}, **flags}
    return load_config(None, [*settings], given)


def cloud_files(folder: Path) -> list[str]:
    """Write two files of vectors, the novel one with its hidden labels; return their names."""
    rows, classes = clouds(1)
    for name, part in (("known", classes < KNOWN), ("novel", classes >= KNOWN)):
        save(folder / f"{name}.parquet", rows[part], [f"c{c}" for c in classes[part]])
    return [str(folder / "known.parquet"), str(folder / "novel.parquet")]
