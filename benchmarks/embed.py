"""Images a second of ``crkd embed``: decoding, resizing, the network and the file of vectors.

``CRKD_IMAGES`` names a Parquet table of images; its first ones are embedded by one thread and by
one a processor. Other work on the machine takes its share of the wall time, so the processor time
and the load are reported too.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.rows import row
from crkd.core.errors import InputError
from crkd.data.storage.workers import cpu_count
from crkd.embedding import EmbedSettings, embed

IMAGES = 4_096


def rows() -> Iterator[dict[str, Any]]:
    """Yield a row for one thread, and for one a processor.

    Raises:
        InputError: no table of images is named.
    """
    import pyarrow.parquet

    named = os.environ.get("CRKD_IMAGES")
    if named is None:
        raise InputError("CRKD_IMAGES is not set; give a Parquet table of images")
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.parquet"
        table = pyarrow.parquet.read_table(named).slice(0, IMAGES)
        pyarrow.parquet.write_table(table, images)
        for workers in sorted({1, cpu_count()}):
            load, began, spent = os.getloadavg()[0], time.monotonic(), time.process_time()
            made = embed(
                [images], Path(folder) / f"{workers}.parquet", EmbedSettings(workers=workers)
            )
            measured = row("embed", "images/s", f"lite0, {workers} threads", IMAGES / made.seconds)
            yield {
                **measured,
                "images": IMAGES,
                "form": made.info.form,
                "seconds_with_start": round(time.monotonic() - began, 1),
                "processor_seconds": round(time.process_time() - spent, 1),
                "load": [round(load, 2), round(os.getloadavg()[0], 2)],
                "processors": cpu_count(),
                "command": "CRKD_IMAGES=FILE crkd bench embed --json FILE",
            }
