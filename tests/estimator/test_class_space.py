from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crkd.core.errors import InputError
from crkd.estimator.class_space import ClassSpace


def space() -> ClassSpace:
    """Return two known classes 10 and 20, and the novel ones 21 to 24."""
    return ClassSpace.of(np.array([10, 20]), 4)


def test_novel_labels_follow_the_known_ones() -> None:
    assert space().labels.tolist() == [10, 20, 21, 22, 23, 24]
    text = ClassSpace.of(np.array(["ant", "novel-0"]), 2)
    assert text.labels.tolist() == ["ant", "novel-0", "novel-1", "novel-2"]


def test_no_novel_label_is_the_mark_of_outliers() -> None:
    assert ClassSpace.of(np.array([-4, -2]), 2).labels.tolist() == [-4, -2, 0, 1]
    assert ClassSpace.of(np.array([-1.5, -0.5]), 1).labels.tolist() == [-1.5, -0.5, 0.5]
    assert ClassSpace.of(np.array([-9.0]), 1).labels.tolist() == [-9, 0]


def test_no_novel_label_is_the_name_of_an_earlier_class() -> None:
    later = space().renamed({22: "25", 10: "27"}).extended(3)
    assert later.labels.tolist() == [10, 20, 21, 22, 23, 24, 26, 28, 29]
    assert later.names == ["27", "20", "21", "25", "23", "24", "26", "28", "29"]
    text = ClassSpace.of(np.array(["ant"]), 1).renamed({"novel-0": "novel-1"}).extended(2)
    assert text.names == ["ant", "novel-1", "novel-2", "novel-3"]


def test_merging_changes_predictions_of_merged_classes_only() -> None:
    logits = np.random.default_rng(0).normal(size=(500, 6))
    before = space()
    after = before.merged([[23, 21], [24, 20]])
    assert after.labels.tolist() == [10, 20, 22, 23]
    expected = {10: 10, 20: 20, 21: 23, 22: 22, 23: 23, 24: 20}
    old = before.labels[before.logits(logits).argmax(axis=1)]
    new = after.labels[after.logits(logits).argmax(axis=1)]
    assert new.tolist() == [expected[label] for label in old.tolist()]


def test_a_merged_class_can_be_merged_again() -> None:
    merged = space().merged([[21, 22]]).merged([[23, 21]]).merged([[20, 23]])
    assert merged.labels.tolist() == [10, 20, 24]
    assert merged.class_of_output.tolist() == [0, 1, 1, 1, 1, 2]
    assert merged.num_known == 2


def test_the_label_of_a_merged_class_is_never_used_again() -> None:
    later = space().merged([[23, 24]]).extended(2)
    assert later.labels.tolist() == [10, 20, 21, 22, 23, 25, 26]
    text = ClassSpace.of(np.array(["ant"]), 2).merged([["novel-0", "novel-1"]]).extended(1)
    assert text.labels.tolist() == ["ant", "novel-0", "novel-2"]


def test_names_follow_their_classes() -> None:
    named = space().renamed({22: "crane", 10: "door", 24: "egg"})
    assert named.names == ["door", "20", "21", "crane", "23", "egg"]
    later = named.merged([[22, 24]]).extended(1)
    assert later.names == ["door", "20", "21", "crane", "23", "25"]
    assert later.renamed({23: "egg"}).names == ["door", "20", "21", "crane", "egg", "25"]
    swapped = named.renamed({22: "egg", 24: "crane"})
    assert swapped.names == ["door", "20", "21", "egg", "23", "crane"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([21, 22], r"groups holds 21; give lists of labels"),
        (["ab"], r"groups holds 'ab'; give lists of labels"),
        ([[21]], r"groups holds \[21\]; a group needs two classes"),
        ([[21, 99]], r"99 is not a class; choose one of: 10, 20, 21"),
        ([[21, 22], [22, 23]], "the class 22 twice"),
        ([[21, 21]], "the class 21 twice"),
        ([[10, 20, 21]], r"known classes 10, 20, whose labels are yours"),
        ([[21, 22], [10, 20]], r"known classes 10, 20"),
    ],
)
def test_a_wrong_group_is_refused(groups: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        space().merged(groups)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({99: "egg"}, "99 is not a class"),
        ({21: " "}, "names gives ' ' to the class 21; give a text"),
        ({21: 7}, "names gives 7 to the class 21; give a text"),
        ({21: "egg", 22: "egg"}, "names calls two classes 'egg'"),
        ({21: "22"}, "names calls two classes '22'"),
    ],
)
def test_a_wrong_name_is_refused(names: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        space().renamed(names)


def test_labels_of_numpy_are_labels() -> None:
    assert space().position(np.int64(22)) == 3
    assert space().merged(np.array([[21, 22]])).labels.tolist() == [10, 20, 21, 23, 24]
    text = ClassSpace.of(np.array(["ant", "bee"]), 1)
    assert text.position(np.str_("bee")) == 1
