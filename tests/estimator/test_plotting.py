from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from crkd import NovelClassDiscovery
from crkd.estimator import plotting
from tests.estimator.conftest import Clouds


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def points(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(group.get_offsets()) for group in figure.axes[0].collections]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_every_class_is_named_where_its_samples_are(fitted: NovelClassDiscovery) -> None:
    fitted.set_class_names({3: "a $crane$", 4: "two\nlines " + 40 * "x"})
    figure = fitted.visualize_classes()
    names = texts(figure)
    assert names[:4] == ["0", "1", "2", "a $crane$"]
    assert names[4].startswith("two lines xxx")
    assert len(names[4]) == plotting.LONGEST_NAME
    known, novel = points(figure)
    assert (len(known), len(novel)) == (180, 120)
    assert legend(figure) == ["known classes: 180 samples", "novel classes: 120 samples"]
    # The name of a novel class is at the mean of the points of one color.
    colors = figure.axes[0].collections[1].get_facecolors()
    members = novel[(colors == colors[0]).all(axis=1)]
    places = [text.get_position() for text in figure.axes[0].texts[3:]]
    assert min(np.linalg.norm(members.mean(axis=0) - place) for place in places) < 1e-5
    figure.savefig(io.BytesIO(), format="png", dpi=40)


def test_outliers_are_drawn_apart(fitted: NovelClassDiscovery) -> None:
    import dataclasses

    apart = np.zeros(300, bool)
    apart[np.flatnonzero(fitted.labels_ == 3)[:5]] = True
    fitted._samples = dataclasses.replace(fitted._samples, outliers=apart)
    figure = fitted.visualize_classes()
    assert [len(group) for group in points(figure)] == [180, 115, 5]
    assert legend(figure)[-1] == "outliers: 5 samples"


def test_large_sets_are_thinned(
    fitted: NovelClassDiscovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotting, "MOST_POINTS", 50)
    assert sum(len(group) for group in points(fitted.visualize_classes())) == 50


def test_a_classifier_of_known_classes_is_drawn(clouds: Clouds) -> None:
    known = clouds.truth < 2
    model = NovelClassDiscovery(random_state=0).fit(clouds.X[known], clouds.truth[known])
    figure = model.visualize_classes()
    assert texts(figure) == ["0", "1"]
    assert legend(figure) == ["known classes: 120 samples"]
