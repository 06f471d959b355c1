"""The line of progress of a pass over images, with a steady time left."""

from __future__ import annotations

import math
import sys
import time
from typing import Final

from crkd.core.batch_shard import processes
from crkd.runs.console import console, format_duration

SMOOTHING_SECONDS: Final = 20.0
_LINES: Final = (2.0, 10.0, 30.0)
"""Seconds after which the first lines come where no terminal is; then one every half minute."""
_REDRAW: Final = 0.5


class ImageProgress:
    """Shows images done, images/s and the time left: on a terminal in place, elsewhere by lines.

    Args:
        title: beginning of the line; the number of processes follows where there are several.
        total: number of images of this process.
    """

    def __init__(self, title: str, total: int) -> None:
        size = processes()[1]
        self._title = title if size == 1 else f"{title} (process 1 of {size})"
        self._total = total
        self._began = self._last = self._shown = time.monotonic()
        self._done = self._lines = 0
        self._rate = 0.0
        self._terminal = sys.stderr.isatty() and not console.quiet

    def show(self, done: int) -> None:
        """Show that ``done`` images are done, if it is time to."""
        now = time.monotonic()
        if now - self._last < _REDRAW:
            return
        self._rate = smoothed(
            self._rate, done - self._done, now - self._last, before=self._last - self._began
        )
        self._done, self._last = done, now
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{self._line()}")
            sys.stderr.flush()
        elif now - self._began >= self._next():
            self._shown, self._lines = now, self._lines + 1
            console.print(self._line(), highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the line from a terminal."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _next(self) -> float:
        if self._lines < len(_LINES):
            return _LINES[self._lines]
        return self._shown - self._began + _LINES[-1]

    def _line(self) -> str:
        left = (
            format_duration((self._total - self._done) / self._rate)
            if self._rate
            else "unknown time"
        )
        return (
            f"{self._title}: {self._done:,} of {self._total:,} images, "
            f"{self._rate:,.0f} images/s, {left} left"
        )


def smoothed(rate: float, count: int, seconds: float, *, before: float) -> float:
    """Return the rate with one more measurement.

    The mean over all time at first, later an average whose weights fall with a time constant of
    ``SMOOTHING_SECONDS``.

    Args:
        rate: until now, in 1/s.
        count: images since the last measurement.
        seconds: since the last measurement.
        before: seconds that ``rate`` covers.

    >>> round(smoothed(100.0, 300, 1.0, before=3.0))
    150
    """
    share = max(seconds / (before + seconds), 1.0 - math.exp(-seconds / SMOOTHING_SECONDS))
    return rate + share * (count / seconds - rate)
