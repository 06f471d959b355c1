from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core import watched


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that what hangs writes; the limit of :mod:`crkd.core.watched` ends then.

    ``HANGS`` names it in child processes. So no limit depends on the speed of the machine.
    """
    file, honest = tmp_path / "hangs", watched._Child._line

    def line(child: watched._Child, seconds: float) -> bytes | None:
        del seconds
        while (found := honest(child, 0.05)) is None and child.process.poll() is None:
            if file.exists():
                file.unlink()
                return None
        # It may have spoken before it ended.
        return honest(child, 0.0) if found is None else found

    monkeypatch.setattr(watched._Child, "_line", line)
    monkeypatch.setenv("HANGS", str(file))
    return file
