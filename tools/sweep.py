"""Run ``crkd sweep`` from a checkout; ``--help`` lists the arguments."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crkd.commands.main import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("sweep"))
