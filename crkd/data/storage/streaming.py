"""Streaming image store: worker threads decode images while earlier batches train."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from crkd.data.splits.partition import Subset
from crkd.data.storage.base import ImageStore, Rows
from crkd.data.storage.resize import read_squares
from crkd.data.storage.workers import threads_of_a_process


class StreamingImages(ImageStore):
    """Images of a subset, decoded on demand and in advance.

    Codecs and resizing release Python's lock, so threads use every processor of the
    process, and no image has to be copied between processes.

    Args:
        part: the images.
        size: side in pixels; images are resized (``fit_square``).
        device: device of the batches.
        ahead: number of batches decoded in advance, at least 1.
        workers: number of threads; None for one for each processor of this process.
    """

    def __init__(
        self,
        part: Subset,
        size: int,
        device: torch.device | str = "cpu",
        *,
        ahead: int = 4,
        workers: int | None = None,
    ) -> None:
        self.size = size
        self.device = torch.device(device)
        self._part = part
        self._ahead = max(1, ahead)
        self._workers = workers or threads_of_a_process()

    def __len__(self) -> int:
        """Return n."""
        return len(self._part)

    def get(self, index: Tensor) -> Tensor:
        """Return ``(b, 3, size, size)`` uint8, decoded now; ``index`` is read on the host."""
        return next(self.batches([index.cpu().numpy()]))

    def batches(self, order: Iterable[Rows]) -> Iterator[Tensor]:
        """Yield ``(b, 3, size, size)`` uint8, decoded and uploaded in advance."""
        remaining = iter(order)
        decoding: deque[list[Future[np.ndarray]]] = deque()
        uploads: deque[_Upload] = deque()
        uploader = _Uploader(self.device)
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        try:
            for rows in itertools.islice(remaining, self._ahead):
                decoding.append(self._submit(pool, rows))
            while decoding or uploads:
                # The next batch is copied to the device while this one is used.
                while decoding and len(uploads) < 2:
                    uploads.append(uploader.start([task.result() for task in decoding.popleft()]))
                    for rows in itertools.islice(remaining, 1):
                        decoding.append(self._submit(pool, rows))
                yield uploads.popleft().wait()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, rows: Rows) -> list[Future[np.ndarray]]:
        """Start to decode one batch, in enough tasks to keep every worker busy."""
        count = min(len(rows), 2 * self._workers)
        return [
            pool.submit(read_squares, self._part, share, self.size)
            for share in np.array_split(rows, max(count, 1))
        ]


class _Upload:
    """One batch during its copy to the device."""

    def __init__(self, batch: Tensor, event: torch.cuda.Event | None) -> None:
        self._batch = batch
        self._event = event

    def wait(self) -> Tensor:
        """Return the batch; later work on the current stream waits for it, the host does not."""
        if self._event is not None:
            current = torch.cuda.current_stream(self._batch.device)
            current.wait_event(self._event)
            self._batch.record_stream(current)
        return self._batch


class _Uploader:
    """Copies batches to the device in parallel with training."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(self, pieces: list[np.ndarray]) -> _Upload:
        """Concatenate the pieces of a batch and start to copy it."""
        batch = torch.from_numpy(np.concatenate(pieces))
        if self._stream is None:
            return _Upload(batch.to(self._device), None)
        with torch.cuda.stream(self._stream):
            placed = batch.pin_memory().to(self._device, non_blocking=True)
            return _Upload(placed, self._stream.record_event())
