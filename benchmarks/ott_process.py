"""OTT-JAX in a separate process, which times calls on request."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crkd.core.errors import InputError

VARIABLE = "CRKD_OTT_PYTHON"
"""Names the interpreter of an environment with OTT-JAX."""

_SCRIPT = Path(__file__).with_name("ott_sinkhorn.py")


class OttProcess:
    """One process of OTT-JAX for one problem.

    Args:
        threads: processors that it may use.

    Attributes:
        versions: those of JAX and OTT-JAX.

    Raises:
        InputError: the interpreter does not run, or lacks OTT-JAX.
    """

    def __init__(self, threads: int) -> None:
        python = os.environ[VARIABLE]
        self._folder = TemporaryDirectory()
        try:
            self._process = subprocess.Popen(
                [python, str(_SCRIPT), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            raise _unusable(python) from error
        try:
            self.versions: dict[str, str] = self._reply()["versions"]
        except EOFError as error:
            self._process.wait()
            raise _unusable(python) from error

    def load(self, scores: Tensor, epsilon: float, iterations: int, *, lse: bool) -> Tensor:
        """Compile the solver for scores ``(P, N, M)`` and return its assignment."""
        given, result = (Path(self._folder.name, name) for name in ("scores.npy", "result.npy"))
        np.save(given, scores.numpy())
        self._request(load=str(given), epsilon=epsilon, iterations=iterations, lse=lse)
        self._request(save=str(result))
        return torch.from_numpy(np.load(result))

    def seconds(self) -> float:
        """Return the time of one call."""
        # The threads of PyTorch wait actively for a moment after their last work.
        time.sleep(0.01)
        seconds: float = self._request(time=True)["seconds"]
        return seconds

    def _request(self, **content: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(content) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError("the process of OTT-JAX has ended")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def __enter__(self) -> OttProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


def _unusable(python: str) -> InputError:
    return InputError(
        f"{VARIABLE} is {python}, which does not run OTT-JAX; name the Python of an environment "
        "made by: python -m venv FOLDER && FOLDER/bin/pip install jax ott-jax"
    )
