"""Compression of a trained run into a small network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from crkd.config.schema import Config
from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.models.network import freeze, with_one_head
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.load import OpenedRun, open_run
from crkd.runs.plugins import check_installed
from crkd.runs.provenance import parent_entry
from crkd.stages.class_memory import true_classes
from crkd.stages.distill.generations import finished_students, generation_folders
from crkd.stages.distill.notes import agreement, comparison
from crkd.stages.distill.student import (
    distillation_loader,
    student_architecture,
    student_network,
    training_parts,
)
from crkd.stages.distill.task import DistillTask, as_one_head
from crkd.stages.distill.vector_teacher import (
    VectorTeacher,
    check_teaching,
    images_of,
    vector_teacher,
    with_images_of,
)
from crkd.stages.forward import Outputs
from crkd.stages.results import finish_run
from crkd.stages.run_data import RunData, prepare, prepare_incremental
from crkd.training.cached_teacher import StoredTeacher, store_teacher
from crkd.training.distributed import is_rank_zero
from crkd.training.interruption import Interrupted
from crkd.training.loop import Loop
from crkd.training.optim import check_optimizer
from crkd.training.plugins import asked_for
from crkd.training.session import begin_run, running

STUDENT_SEED = 7_000_003
"""Keeps a student's initial weights apart from those of a teacher of the same seed."""


def distill(
    config: Config, out: str | Path, teacher: str | Path, *, resume: bool = False
) -> RunFolder:
    """Train ``config.distill.generations`` students in a row; return the last one's run folder.

    Args:
        config: that of the teacher's run, with the block ``distill`` of this one.
        out: the run folder of the last student; earlier students are in the same parent folder.
        teacher: run folder of the first teacher.
        resume: continue the students of ``out``.

    Raises:
        InputError: the teacher, the configuration, the data or the folder is unusable, or a plug-in
            that the teacher was made with is missing.
        Interrupted: a signal came; the state is saved.
    """
    device = pick_device(config.device)
    run = RunFolder.open(teacher)
    info = run.read_info()
    check_installed(run.path, info, asked_for(config, "distilled", config.distill.student))
    if info.on_vectors:
        check_teaching(config, run)
        config = with_images_of(config, run)
        data = images_of(config, info, device)
        settings = dataclasses.replace(config.data, image_size=data.image_size)
        config = dataclasses.replace(config, data=settings)
    else:
        data = _data_of(info, config, device)
    folders = generation_folders(Path(out), config.distill.generations)
    done = finished_students(folders, config, run, resume=resume)
    for number, folder in enumerate(folders, start=1):
        if number <= len(done):
            run = done[number - 1]
            continue
        continues = resume and (number == 1 or (folder / "run.json").is_file())
        student = StudentTraining(
            config, data, open_run(run.path, device), device, generation=number
        )
        try:
            run = student.train(folder, resume=continues)
        except Interrupted as stop:
            raise stop.within(f"student {number} of {len(folders)}", Path(out)) from None
    return run


def _data_of(info: RunInfo, config: Config, device: torch.device) -> RunData:
    """Return the images of the teacher's run; classes that earlier steps found have no labels."""
    known = [entry for entry in info.classes if not entry.is_novel]
    if not any(entry.was_discovered for entry in known):
        return prepare(config, device)
    return prepare_incremental(config, device, classes=known, preprocessing=info.preprocessing)


class StudentTraining:
    """A student, its teacher and its batches, made before any folder is touched.

    Args:
        config: the configuration of the run.
        data: images of the teacher's data set and split.
        opened: the teacher's run.
        device: where it computes.
        generation: of the student, counted from 1.

    Raises:
        InputError: the data is not the teacher's, or student, terms and teacher do not fit.
    """

    def __init__(
        self,
        config: Config,
        data: RunData,
        opened: OpenedRun,
        device: torch.device,
        *,
        generation: int,
    ) -> None:
        self.config, self.data, self.opened, self.device = config, data, opened, device
        self.num_novel = opened.info.num_novel
        self.teacher = freeze(with_one_head(opened.network, opened.info.chosen_head))
        self.vectors: VectorTeacher | None = None
        if opened.architecture.on_vectors:
            self.vectors = vector_teacher(opened, self.teacher, config)
        else:
            _check_same_data(opened, data)
            self.teacher.to(device)
        self.architecture = student_architecture(config, opened, data.image_size)
        seed = config.seed + STUDENT_SEED * generation
        self.network = student_network(config, self.architecture, self.teacher, seed).to(device)
        check_optimizer(self.network, config.distill.optimizer)
        parts = training_parts(config, data, num_novel=self.num_novel)
        teacher = self.vectors.fixed(parts, device) if self.vectors else self.teacher
        self.task = DistillTask(self.network, teacher, config, device)
        self.loader = distillation_loader(config, data, parts, device)

    def train(self, out: Path, *, resume: bool) -> RunFolder:
        """Train to the end and return the finished run folder. Raises as :func:`distill`."""
        samples = self.data.sample_digests()
        run = begin_run(out, self._info(), self.config, self.device, resume=resume, samples=samples)
        with running(run):
            loop = Loop(
                self.task,
                self.loader,
                config=self.config,
                optimizer=self.config.distill.optimizer,
                epochs=self.config.distill.epochs,
                run=run,
                device=self.device,
            )
            if self.config.distill.stored_epochs:
                self.task.teacher = self._stored(loop, resume=resume)
            seconds = loop.train(resume=resume)
            columns = {}
            if self.num_novel:
                outputs = self._teacher_outputs()
                columns["teacher"] = {name: out.novel[0] for name, out in outputs.items()}
                self._note_agreement(run, outputs)
            finish_run(
                run,
                self.network,
                self.data,
                seconds=seconds,
                chosen_head=0 if self.num_novel else None,
                columns=columns,
                true_known=true_classes(self.opened.run, len(self.opened.info.classes))[
                    : self.opened.info.num_known
                ],
            )
        return run

    def _stored(self, loop: Loop, *, resume: bool) -> StoredTeacher:
        live = self.task.teacher
        return store_teacher(
            loop,
            lambda batch, first: as_one_head(live(batch, first)),
            self.teacher,
            mode=self.config.distill.label_mode,
            num_classes=len(self.opened.info.classes),
            resume=resume,
        )

    def _teacher_outputs(self) -> dict[str, Outputs]:
        """Return the teacher's outputs on the subsets that are evaluated, by name."""
        if self.vectors is None:
            return self.data.evaluated_outputs(self.teacher)
        return {name: self.vectors.outputs(part) for name, part in self.data.evaluated().items()}

    def _note_agreement(self, run: RunFolder, teacher: dict[str, Outputs]) -> None:
        if not teacher or not is_rank_zero():
            return
        # Outputs of a frozen network are kept: the evaluation reads them again.
        self.network.requires_grad_(False)
        info = run.read_info()
        info.add_own_notes([agreement(teacher, self.data.evaluated_outputs(self.network))])
        run.write_info(info)

    def _info(self) -> RunInfo:
        teacher = self.opened
        sizes = comparison(teacher, self.teacher, self.architecture, self.network)
        notes = [*self.data.notes, *teacher.info.inherited_notes()]
        info = RunInfo(
            kind="distilled",
            dataset=teacher.info.dataset,
            split=self.data.split_entry(),
            classes=teacher.info.classes,
            preprocessing=self.data.preprocessing(),
            architecture=self.architecture.plain(),
            seed=self.config.seed,
            parent=parent_entry(teacher.run.path, teacher.info),
            notes=list(dict.fromkeys(notes)),
        )
        info.add_own_notes([sizes])
        return info


def _check_same_data(opened: OpenedRun, data: RunData) -> None:
    info = opened.info
    if (info.split, info.preprocessing) != (data.split_entry(), data.preprocessing()):
        raise InputError(
            f"the data of --teacher {opened.run.path} is not what it was trained on: the split "
            f"{info.split['name']!r} of {info.dataset} or its preprocessing has changed; restore "
            "the files, or train the teacher again"
        )
