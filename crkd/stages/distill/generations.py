"""Run folders of students that follow each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder, check_free
from crkd.training.checkpoint import resumable_settings, without_recovery
from crkd.training.finished import is_finished


def generation_folders(out: Path, last: int) -> list[Path]:
    """Return the folders of ``last`` students; the last one has ``out``.

    >>> [folder.name for folder in generation_folders(Path("runs/s"), 2)]
    ['s-generation1', 's']
    """
    earlier = [out.with_name(f"{out.name}-generation{number}") for number in range(1, last)]
    return [*earlier, out]


def finished_students(
    folders: list[Path], config: Config, teacher: RunFolder, *, resume: bool
) -> list[RunFolder]:
    """Return the finished runs that a chain of students begins with, without the last student.

    Args:
        folders: of all students, the first generation first.
        config: of the students.
        teacher: of the first student.
        resume: whether the runs in the folders are continued.

    Raises:
        InputError: a folder is taken by files that are not resumed, or a finished student was made
            with another configuration or by another teacher.
    """
    for folder in folders:
        if not resume or not (folder / "run.json").is_file():
            check_free(folder)
    done: list[RunFolder] = []
    for place, folder in enumerate(folders[:-1]):
        if resume and is_finished(folder, config, _settings):
            before = [teacher, *done]
            _check_teacher(RunFolder(folder), before[place] if place < len(before) else None)
            done.append(RunFolder(folder))
    return done


def _settings(config: Config) -> Any:
    # A later student may resume with other values after a loss that was not finite.
    return without_recovery(resumable_settings(config))


def _check_teacher(student: RunFolder, teacher: RunFolder | None) -> None:
    """Refuse a finished student of another teacher, or of one that is not finished."""
    parent = student.read_info().parent or {}
    if teacher is None or parent.get("model_sha256") != teacher.read_info().model_sha256:
        now = "an unfinished student" if teacher is None else teacher.path
        raise InputError(
            f"--resume: the run in {student.path} had another teacher, {parent.get('path')}, than "
            f"{now}; name another folder with --out, or the teacher that it had"
        )
