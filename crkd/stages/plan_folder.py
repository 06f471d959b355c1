"""The folder of a plan: what was asked for, where it comes from, and its metrics so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.splits.sessions import SessionSizes
from crkd.evaluation.steps import draw_steps
from crkd.runs.folder import RunFolder
from crkd.runs.provenance import command_line, git_commit, versions
from crkd.training.checkpoint import (
    differ_only_in_recovery,
    differences,
    resumable_settings,
    without_recovery,
)
from crkd.training.nonfinite import FILE as FAILED

_ORIGIN: Final = ("command", "commit", "versions")


class PlanFolder:
    """Writes ``config.yaml``, ``metrics.json`` and ``steps.png`` of a plan.

    Args:
        path: the folder.
        config: of the plan.
        sizes: number of classes of each stage.
        method: how a step discovers.
        mixed: sizes of a session that mixes new and old classes, or None.
    """

    def __init__(
        self,
        path: str | Path,
        config: Config,
        sizes: Sequence[int],
        method: str,
        mixed: SessionSizes | None,
    ) -> None:
        self.path = Path(path)
        self._run, self._config = RunFolder(path), config
        self._head: dict[str, Any] = {"plan": list(sizes), "method": method, "seed": config.seed}
        self._head["session"] = None if mixed is None else mixed._asdict()

    def check(self, *, resume: bool) -> None:
        """Check that the folder is free, or that the plan in it is this one. Nothing is written.

        Raises:
            InputError: it holds files and is not to be resumed, or the plan in it has other groups,
                another method, seed, session or configuration.
        """
        if not resume:
            if self.path.is_dir() and any(self.path.iterdir()):
                raise InputError(
                    f"--out {self.path} holds files already; add --resume or name another folder"
                )
            return
        made, wanted = {}, {}
        if (self.path / "config.yaml").is_file():
            before = self._run.read_config()
            if not (self._lost_a_loss() and differ_only_in_recovery(before, self._config)):
                made, wanted = resumable_settings(before), resumable_settings(self._config)
        if recorded := self._recorded():
            made |= {key: recorded.get(key) for key in self._head}
            wanted |= self._head
        if made != wanted:
            raise InputError(
                f"--resume: the plan in {self.path} differs in {differences(made, wanted)}; name "
                "another folder with --out, or give the old values"
            )

    def begin(self) -> None:
        """Make the folder, and write configuration and plan.

        Command, commit and versions stay those with which the plan began.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._run.write_config(self._config)
        recorded = self._recorded()
        if recorded:
            self._head |= {key: recorded[key] for key in _ORIGIN if key in recorded}
            return
        values = (command_line(), git_commit(), versions())
        self._head |= zip(_ORIGIN, values, strict=True)
        self._run.write_metrics({**self._head, "steps": []})

    def record(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Write and return the metrics of the plan so far, with their origin.

        Args:
            metrics: ``steps``, with ``groups`` in each, and what they sum up to.
        """
        found = {**self._head, **metrics}
        self._run.write_metrics(found)
        draw_steps([step["groups"] for step in found["steps"]], self.path / "steps.png")
        return found

    def _recorded(self) -> dict[str, Any]:
        return self._run.read_metrics() if (self.path / "metrics.json").is_file() else {}

    def _lost_a_loss(self) -> bool:
        """Return whether a step failed by a loss that was not finite."""
        places = [file.parent for file in self.path.glob(f"step-*/{FAILED}")]
        return any(RunFolder(place).read_info().status == "failed" for place in places)


def own_settings(settings: Mapping[str, Any]) -> Any:
    """Return the settings of a stage that its finished run must have, as plain values.

    Classes and samples of a stage are in files of the plan, which may be moved. Settings that may
    change after a loss that was not finite are left out too.

    Args:
        settings: those that the stage reads, as plain values.
    """
    values = without_recovery(settings)
    data = {k: v for k, v in values["data"].items() if k not in ("features", "session")}
    rest = {k: v for k, v in values.items() if k not in ("split", "class_order_seed")}
    return {**rest, "data": data}


def step_settings(config: Config) -> Any:
    """Return :func:`own_settings` of a step after the first stage."""
    return own_settings(resumable_settings(config))
