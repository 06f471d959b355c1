"""Files of tests are not forced to the disk: no test needs them after a loss of power."""

from __future__ import annotations

import os

from tests.support.reliability import LONG


def spare_the_disk() -> None:
    """Let ``os.fsync`` return at once in this process, except in the long form.

    Waiting for the disk takes a tenth of the time of a small run. A descriptor that ``fsync``
    refuses is refused here too.
    """
    if not LONG:
        os.fsync = os.fstat  # type: ignore[assignment]
