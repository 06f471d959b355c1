"""A stage of a plan on images: its classes, its images and its run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.splits.class_split import ClassSplit, load_split
from crkd.data.splits.session_file import write_session
from crkd.runs.folder import RunFolder
from crkd.stages.discover.run import discover
from crkd.stages.plan_folder import own_settings, step_settings
from crkd.stages.pretrain.run import pretrain
from crkd.stages.pretrain.settings import stage1_settings
from crkd.training.finished import finished, is_finished


class PlanStage(NamedTuple):
    """A stage of a plan; without a parent run it is stage 1.

    Attributes:
        place: its run folder; files of its classes and images have the same name and an ending.
        parent: folder of the stage before, or None.
        split: its classes.
        config: of its run, but for its classes and images.
        images: ids of the images of its session; None takes all images of its new classes.
    """

    place: Path
    parent: Path | None
    split: ClassSplit
    config: Config
    images: list[str] | None

    def check(self) -> None:
        """Check that what the folder holds of this stage belongs to it.

        Raises:
            InputError: the file of its classes has others, or its finished run was made with
                another configuration.
        """
        file, now = self._split_file, self.split.fingerprint()
        if file.is_file() and load_split(self.split.dataset, str(file)).fingerprint() != now:
            raise InputError(
                f"--resume: {file} has other classes than this plan, or another order of them; "
                "name another folder with --out, or give the old --split and --class-order-seed"
            )
        is_finished(self.place, self.config, self._settings)

    def run(self) -> RunFolder:
        """Run this stage, continue it, or return its finished run.

        Raises:
            InputError: a folder or a file is unusable.
            Interrupted: a signal came; the state is saved.
        """
        if not self._split_file.is_file():
            self.split.save(self._split_file)
        data = self.config.data
        if self.images is not None:
            file = self.place.with_name(f"{self.place.name}-images.txt")
            write_session(file, self.images)
            data = dataclasses.replace(data, session=str(file))
        config = dataclasses.replace(
            self.config, split=str(self._split_file), class_order_seed=None, data=data
        )

        def work(resume: bool) -> RunFolder:
            if self.parent is None:
                return pretrain(config, self.place, resume=resume)
            return discover(config, self.place, self.parent, resume=resume)

        return finished(self.place, config, self._settings, work)

    @property
    def _split_file(self) -> Path:
        return self.place.with_suffix(".yaml")

    def _settings(self, config: Config) -> Any:
        if self.parent is None:
            return own_settings(stage1_settings(config))
        return step_settings(config)
