"""Run folders: one layout for every kind of run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd.config.check import build
from crkd.config.load import dump_config, parse_yaml
from crkd.config.schema import Config
from crkd.core.atomic_write import is_unfinished, write_bytes
from crkd.core.errors import InputError
from crkd.core.fields import check_fields, shown
from crkd.runs.atomic_files import check_regular, load_tensors, read_json, save_tensors, write_json
from crkd.runs.class_info import ClassInfo, plain_classes
from crkd.runs.info_fields import FIELDS, OPTIONAL
from crkd.runs.lock import LOCK, FolderLock
from crkd.runs.older_notes import own_notes_by_words

if TYPE_CHECKING:
    # PyTorch takes seconds to import, and most commands on runs do not need it.
    from torch import Tensor

SCHEMA_VERSION = 3
MAX_CONFIG = 3 << 20
"""Most bytes of ``config.yaml``: those of ``--config`` and of the arguments of a command."""
REMOVED_KEYS = ("features",)
"""Blocks of configurations of earlier versions that no kept run needs."""


@dataclass(kw_only=True)
class RunInfo:
    """The description of a run and its model, stored as ``run.json``.

    Attributes:
        kind: "supervised" (stage 1), "discovered" (stage 2), "distilled" or "baseline".
        status: "running", "interrupted", "failed" or "complete".
        dataset: name of the data set, "folder" for own images.
        split: ``{"name", "fingerprint", "known"}`` of the class split, see ``stages.run_data``.
        classes: all C classes that the model can predict, in the order of their joint ids.
        preprocessing: ``{"image_size", "mean", "std"}`` that the model expects.
        architecture: what the network is made of; None for a run without a network.
        chosen_head: the novel head that predicts; None without novel classes.
        parent: ``{"path", "model_sha256", "seed"}`` of the run this one started from, or None.
        model_sha256: digest of ``model.safetensors`` once written.
        seed: seed of the run.
        provenance: command, commit, device, number of processes, versions, digest of the data and,
            where there are any, plug-ins.
        notes: warnings and remarks about the results of this run; :meth:`add_own_notes` adds more.
        started, finished: UTC times, ISO 8601.
        seconds: wall time of the training, over all resumed parts.
        schema_version: version of this file's form.
        embedding: how images become vectors (:mod:`crkd.data.vectors.embedding_file`), for a
            discovery on vectors of ``crkd embed``; else None.
        baseline: name of the baseline, for a run of this kind; else None.
        own_notes: those of ``notes`` that hold for this run alone. A student or a reviewed run of
            this one does not inherit them.
    """

    kind: str
    status: str = "running"
    dataset: str
    split: dict[str, str]
    classes: list[ClassInfo]
    preprocessing: dict[str, Any]
    architecture: dict[str, Any] | None = None
    chosen_head: int | None = None
    seed: int
    provenance: dict[str, Any] = field(default_factory=dict)
    parent: dict[str, Any] | None = None
    model_sha256: str | None = None
    notes: list[str] = field(default_factory=list)
    started: str = ""
    finished: str | None = None
    seconds: float = 0.0
    schema_version: int = SCHEMA_VERSION
    embedding: dict[str, Any] | None = None
    baseline: str | None = None
    own_notes: list[str] = field(default_factory=list)

    def add_own_notes(self, notes: Iterable[str]) -> None:
        """Add notes on the outputs or the network of this run."""
        added = list(notes)
        self.notes, self.own_notes = [*self.notes, *added], [*self.own_notes, *added]

    def inherited_notes(self) -> list[str]:
        """Return the notes that also hold for a student or a reviewed run of this one."""
        return [note for note in self.notes if note not in self.own_notes]

    @property
    def on_vectors(self) -> bool:
        """Whether the run is a discovery on feature vectors."""
        # The package of networks imports PyTorch.
        from crkd.models.architecture import VECTORS

        return self.architecture is not None and self.architecture.get("backbone") == VECTORS

    @property
    def num_known(self) -> int:
        """K."""
        return sum(not entry.is_novel for entry in self.classes)

    @property
    def num_novel(self) -> int:
        """M."""
        return len(self.classes) - self.num_known


def utc_now() -> str:
    """Return the time as ISO 8601 text in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


class RunFolder:
    """Reads and writes the files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: FolderLock | None = None

    def lock(self) -> None:
        """Let no other process train this run, until :meth:`unlock` or the end of the process.

        Raises:
            InputError: another process trains it.
        """
        self._lock = FolderLock(self.path, f"the run in {self.path}")

    def unlock(self) -> None:
        """Give up the lock, if it is held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Make a new, empty run folder.

        Unfinished files and the lock of a process that was killed do not count.

        Raises:
            InputError: the folder holds files already, or cannot be made.
        """
        folder = Path(path)
        check_free(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"--out {folder} cannot be made ({error.strerror}); name another folder"
            ) from None
        return cls(folder)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run folder that exists.

        Raises:
            InputError: there is no run in ``path``.
        """
        folder = Path(path)
        if not (folder / "run.json").is_file():
            raise InputError(f"{folder} is not a run folder (no run.json in it); check the path")
        return cls(folder)

    def write_info(self, info: RunInfo) -> None:
        """Write ``run.json``."""
        values = dataclasses.asdict(info) | {"classes": plain_classes(info.classes)}
        write_json(self.path / "run.json", values)

    def read_info(self) -> RunInfo:
        """Read ``run.json``.

        Raises:
            InputError: it is damaged, an entry is of the wrong type or out of range, or a version
                with another form wrote it.
        """
        path = self.path / "run.json"
        values = read_json(path)
        if not isinstance(values, dict) or "schema_version" not in values:
            raise InputError(f"{path} is not a run's description; restore it")
        if values["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {shown(values['schema_version'])}; this version of "
                f"crkd reads {SCHEMA_VERSION}: use the version that wrote it"
            )
        check_fields(values, FIELDS, path, optional=OPTIONAL)
        classes = [
            ClassInfo.from_plain(entry, place, path)
            for place, entry in enumerate(values["classes"])
        ]
        kinds = [entry.kind for entry in classes]
        if kinds != sorted(kinds):
            raise InputError(
                f"{path}: classes has a known class after a novel one; restore the file"
            )
        own_notes = own_notes_by_words(values.get("notes", ()))
        return RunInfo(**{"own_notes": own_notes, **values, "classes": classes})

    def write_config(self, config: Config) -> None:
        """Write the resolved configuration, ``config.yaml``."""
        write_bytes(self.path / "config.yaml", dump_config(config).encode())

    def read_config(self) -> Config:
        """Read ``config.yaml`` back."""
        path = self.path / "config.yaml"
        check_regular(path, MAX_CONFIG)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read ({error}); restore it") from None
        values = parse_yaml(text, str(path))
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if key not in REMOVED_KEYS}
        return build(Config, values)

    def write_model(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
        """Write ``model.safetensors`` and return its SHA-256."""
        return save_tensors(self.path / "model.safetensors", tensors, metadata)

    def read_model(self, info: RunInfo) -> tuple[dict[str, Tensor], Any]:
        """Read ``model.safetensors``, checked against the digest in ``run.json``."""
        if info.model_sha256 is None:
            raise InputError(
                f"{self.path} has no finished model (status {info.status!r}); "
                "finish it with --resume, or name another run"
            )
        return load_tensors(self.path / "model.safetensors", info.model_sha256)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write ``metrics.json``."""
        write_json(self.path / "metrics.json", metrics)

    def read_metrics(self) -> dict[str, Any]:
        """Read ``metrics.json``."""
        values = read_json(self.path / "metrics.json")
        if not isinstance(values, dict):
            raise InputError(f"{self.path / 'metrics.json'} holds no block of metrics; restore it")
        return values


def check_free(folder: Path, *, resumable: bool = True) -> None:
    """Refuse a folder that holds files, before any work.

    Args:
        folder: place of a new run.
        resumable: whether the command can continue an unfinished run.

    Raises:
        InputError: the folder holds files, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file; name another folder")
    if not folder.exists() or not any(map(_is_kept, folder.iterdir())):
        return
    status = ""
    with contextlib.suppress(InputError):
        status = RunFolder.open(folder).read_info().status
    content = {"": "holds files already", "complete": "holds a finished run"}
    remedy = "continue it with --resume or " if resumable and status not in content else ""
    raise InputError(
        f"--out {folder} {content.get(status, 'holds an unfinished run')}; {remedy}name another "
        "folder"
    )


def _is_kept(file: Path) -> bool:
    return file.name != LOCK and not is_unfinished(file)
