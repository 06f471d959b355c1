"""Images to one file of vectors: read once, resumed after an interruption, never embedded twice."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crkd.core.atomic_write import clear_unfinished
from crkd.core.batch_shard import own_rows, processes
from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.data.encoded.listing import Listing, find_encoded
from crkd.data.vectors.embedding_file import EmbeddingFile, EmbeddingInfo
from crkd.embedding.assemble import assemble
from crkd.embedding.items import EMBEDDED, REUSED, Items
from crkd.embedding.parts import KnownVectors, PartWriter, parts_folder
from crkd.embedding.pipeline import Pipeline
from crkd.embedding.plan import (
    PLAN,
    EmbedSettings,
    check_settings,
    open_backbone,
    read_plan,
    settle,
    write_plan,
)
from crkd.embedding.progress import ImageProgress
from crkd.models.pretrained.base import PretrainedBackbone
from crkd.models.pretrained.embedder import Embedder, Form
from crkd.runs.console import console
from crkd.runs.lock import locked
from crkd.runs.skipped_files import list_skipped, skipped_file
from crkd.training.cpu_allocator import keep_freed_memory
from crkd.training.distributed import any_rank, barrier, is_rank_zero
from crkd.training.interruption import Interrupted, graceful_stop


@dataclass(frozen=True)
class EmbedSummary:
    """Numbers of embedded and skipped images.

    Attributes:
        out: the file of vectors.
        info: how its vectors were made.
        rows: number of rows of the file.
        embedded: number of images whose vectors were computed.
        reused: number of images whose vectors were known.
        seconds: from the first image to the last.
        skipped: reason for each image that cannot be read, by its id.
        passed_over: number of files that are not images, by suffix.
    """

    out: Path
    info: EmbeddingInfo
    rows: int
    embedded: int
    reused: int
    seconds: float
    skipped: dict[str, str] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)


def say(line: str) -> None:
    """Print a line for the person, to standard error."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def embed(
    images: Sequence[str | Path] | Listing,
    out: str | Path,
    settings: EmbedSettings | None = None,
    *,
    resume: bool = False,
    log: Callable[[str], None] = say,
) -> EmbedSummary:
    """Write the feature vectors of images to a Parquet file.

    An image whose content has a vector in the file, or in the parts of an interrupted call, is not
    embedded again. Of several processes each embeds its share; the first one writes the file,
    which equals that of one process.

    Args:
        images: folders, tar files and Parquet tables of images, or their listing.
        out: the file, ``.parquet``; one of an earlier call is extended.
        settings: how to embed.
        resume: refuse to begin: there must be an earlier call to continue.
        log: receives what the person should know.

    Raises:
        InputError: an argument is unusable, or no image can be read.
        Interrupted: a signal came; the vectors so far are kept.
    """
    settings = settings or EmbedSettings()
    target = Path(out)
    _check_out(target, resume=resume)
    check_settings(settings)
    with contextlib.ExitStack() as stack:
        if is_rank_zero():
            # A second command would lose the rows that the first one writes after its reading.
            stack.enter_context(locked(parts_folder(target), "--out"))
        barrier()
        existing = stack.enter_context(EmbeddingFile(target)) if target.exists() else None
        taken = {} if existing is None else {r.path: r.name for r in existing.info.roots}
        if isinstance(images, Listing):
            listing = images.named(taken)
        else:
            listing = find_encoded(images, taken)
        try:
            return _Job(target, listing, existing, settings, log).run()
        except KeyboardInterrupt:
            if (parts_folder(target) / PLAN).is_file():
                raise _kept(target) from None
            raise


def _kept(out: Path) -> Interrupted:
    return Interrupted(
        f"the vectors so far are kept in {parts_folder(out)}; give the same command to continue"
    )


def _check_out(out: Path, *, resume: bool) -> None:
    if out.suffix.lower() != ".parquet":
        raise InputError(f"--out {str(out)!r} does not end in .parquet; name it so")
    if out.exists() and not out.is_file():
        raise InputError(f"--out {str(out)!r} is not a regular file; name another file")
    if resume and not out.exists() and not (parts_folder(out) / PLAN).is_file():
        raise InputError(
            f"--resume: there is neither {str(out)!r} nor an unfinished part of it; leave --resume "
            "out"
        )


class _Job:
    """One call of :func:`embed` whose arguments are read."""

    def __init__(
        self,
        out: Path,
        listing: Listing,
        existing: EmbeddingFile | None,
        settings: EmbedSettings,
        log: Callable[[str], None],
    ) -> None:
        self.out, self.listing, self.existing = out, listing, existing
        self.settings, self.log = settings, log
        self.folder = parts_folder(out)
        self.continues = False
        self.rank, self.size = processes()

    def run(self) -> EmbedSummary:
        plan = read_plan(self.folder)
        self.continues = plan is not None
        before = plan or (self.existing.info if self.existing else None)
        if before and self.existing and before.weights_sha256 != self.existing.info.weights_sha256:
            raise InputError(
                f"--out {self.out} and its unfinished parts {self.folder} are of different "
                "backbones; delete one of them"
            )
        if is_rank_zero():
            self.log(f"{counted(len(self.listing), 'image')} found")
        backbone = open_backbone(self.settings, before)
        info, embedder = self._settled(backbone, before)
        began = time.monotonic()
        items = self._embedded(info, embedder)
        if is_rank_zero():
            return self._finished(info, items, time.monotonic() - began)
        return EmbedSummary(self.out, info, 0, 0, 0, time.monotonic() - began)

    def _settled(
        self, backbone: PretrainedBackbone, before: EmbeddingInfo | None
    ) -> tuple[EmbeddingInfo, Embedder]:
        """Let the first process choose the form, once, and return it in all of them."""
        keep_freed_memory()
        if is_rank_zero():
            clear_unfinished(self.folder)
            info, embedder = settle(backbone, self.settings, before, self.listing, self.log)
            write_plan(self.folder, info)
            self.log(
                f"backbone {info.backbone} at {backbone.preprocessing.image_size} px, "
                f"{info.form['runtime']}"
            )
        barrier()
        if not is_rank_zero():
            plan = read_plan(self.folder)
            assert plan is not None
            info, embedder = plan, Embedder(backbone, Form.from_plain(plan.form))
        return info, embedder

    def _embedded(self, info: EmbeddingInfo, embedder: Embedder) -> Items:
        """Embed the share of this process; return the items of all processes."""
        known = KnownVectors(self.existing, self.folder, info.num_features)
        # No process writes a part while another one still lists the parts.
        barrier()
        parts = PartWriter(self.folder, self.rank, info.num_features)
        rows = own_rows(len(self.listing))
        progress = ImageProgress("embed", len(rows))
        pipeline = Pipeline(self.listing, embedder, known, parts, self.settings.workers)
        with graceful_stop() as signals:
            items = pipeline.run(rows, stopped=lambda: bool(signals), show=progress.show)
        progress.close()
        if any_rank(items is None) or items is None:
            raise _kept(self.out)
        items.save(self.folder, self.rank)
        barrier()
        return Items.load(self.folder, self.size) if is_rank_zero() else items

    def _finished(self, info: EmbeddingInfo, items: Items, seconds: float) -> EmbedSummary:
        states = Counter(items.states.tolist())
        skipped = {self.listing.image_id(row): why for row, why in sorted(items.reasons.items())}
        if len(skipped) == len(self.listing):
            # The parts of an earlier call are of other images; they stay for it.
            if not self.continues:
                shutil.rmtree(self.folder)
            name, why = next(iter(skipped.items()))
            raise InputError(
                f"no image of DIR can be read, the first of {len(skipped):,} is {name!r} "
                f"({why}); give images of the usual formats"
            )
        known = KnownVectors(self.existing, self.folder, info.num_features)
        made = assemble(self.out, self.folder, info, self.listing, items, known, self.existing)
        list_skipped(skipped_file(self.out), skipped)
        shutil.rmtree(self.folder)
        return EmbedSummary(
            out=self.out,
            info=made,
            rows=sum(root.rows for root in made.roots),
            embedded=states[EMBEDDED],
            reused=states[REUSED],
            seconds=seconds,
            skipped=skipped,
            passed_over={k: n for k, n in sorted(self.listing.passed_over.items()) if n > 0},
        )
