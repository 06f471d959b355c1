"""Which form of the checks is run, and where their figures go."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
LONG = "CRKD_LONG" in os.environ

Record = Callable[..., None]
