"""The file of a session: ids of its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crkd.core.errors import InputError
from crkd.data.splits.partition import LABELED_SEED, Subsets, partition
from crkd.data.splits.session_file import only_session, write_session
from crkd.data.splits.sessions import SessionSizes, sessions
from tests.data.splits.test_partition import SPLIT, dataset_of

TRAIN = [0, 1, 3, 4] * 20


def parts() -> Subsets:
    return partition(
        dataset_of(TRAIN, None), SPLIT, validation_fraction=0.0, labeled_fraction=0.7, seed=3
    )


def test_the_labeled_images_are_those_of_a_partition() -> None:
    joint = SPLIT.joint_ids(np.array(TRAIN))
    base, session = sessions(
        joint,
        (2, 2),
        labeled_fraction=0.7,
        mixed=SessionSizes(8, 3),
        seed=3,
        labeled_seed=LABELED_SEED,
    )
    found = parts()
    assert base.tolist() == found.known_train.indices.tolist()
    assert set(session) <= set(found.unlabeled.indices)


def test_only_the_images_of_the_file_remain(tmp_path: Path) -> None:
    whole = parts()
    wanted = whole.unlabeled.ids[1::3]
    write_session(tmp_path / "session.txt", wanted[::-1])
    found = only_session(whole, tmp_path / "session.txt")
    assert found.unlabeled.ids == wanted
    assert found.hidden.unlabeled().tolist() == whole.hidden.unlabeled()[1::3].tolist()
    assert found.known_train is whole.known_train


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names 0 images"),
        ("nowhere\n", "of which 1 are not among .*'nowhere'"),
        ("LABELED\n", "of which 1 are not among the unlabeled training images"),
        (None, "cannot read data.session"),
    ],
)
def test_a_file_of_another_run_is_refused(
    content: str | None, message: str, tmp_path: Path
) -> None:
    whole, file = parts(), tmp_path / "session.txt"
    if content is not None:
        file.write_text(content.replace("LABELED", whole.known_train.ids[0]))
    with pytest.raises(InputError, match=message):
        only_session(whole, file)
