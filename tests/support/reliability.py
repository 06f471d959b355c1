"""Which form of the checks is run, and where their figures go."""

from __future__ import annotations

import os
from collections.abc import Callable

LONG = "CRKD_LONG" in os.environ

Record = Callable[..., None]
