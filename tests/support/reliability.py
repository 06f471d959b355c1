"""Form of the checks, and the file of their results."""

from __future__ import annotations

import os
from collections.abc import Callable

LONG = "CRKD_LONG" in os.environ

Record = Callable[..., None]
