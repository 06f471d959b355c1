from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from crkd import NovelClassDiscovery
from crkd.estimator import plotting
from tests.estimator.conftest import Clouds


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def points(figure: Figure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of points, their colors, and the places of crosses."""
    dots, crosses = figure.axes[0].collections
    assert isinstance(dots, PathCollection)
    return np.asarray(dots.get_offsets()), dots.get_facecolors(), np.asarray(crosses.get_offsets())


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_class_is_named_where_its_samples_are(fitted: NovelClassDiscovery) -> None:
    fitted.set_class_names({3: "a $crane", 4: "two\nlines " + 40 * "x"})
    figure = fitted.visualize_classes()
    names = texts(figure)
    assert names[:4] == ["0", "1", "2", "a $crane"]
    assert names[4].startswith("two lines xxx")
    assert len(names[4]) == plotting.LONGEST_NAME
    assert legend(figure) == ["known classes (180)", "a $crane (60)", f"{names[4]} (60)"]
    places, colors, crosses = points(figure)
    assert (len(places), len(crosses)) == (300, 0)
    labels = fitted.labels_
    for position, text in enumerate(figure.axes[0].texts):
        members = places[labels == position]
        np.testing.assert_allclose(text.get_position(), members.mean(axis=0), atol=1e-5)
    assert len(np.unique(colors[labels < 3], axis=0)) == 1
    assert len(np.unique(colors, axis=0)) == 3
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert file.getvalue().startswith(b"\x89PNG")


def test_outliers_are_crosses(clouds: Clouds) -> None:
    y = clouds.labels()
    y[np.flatnonzero(y == 0)[:5]] = -1
    model = NovelClassDiscovery(2, method="whitened_kmeans", random_state=0)
    figure = model.fit(clouds.X[clouds.first], y).visualize_classes()
    places, _, crosses = points(figure)
    assert (len(places), len(crosses)) == (295, 5)
    assert legend(figure) == ["known classes (175)", "3 (60)", "4 (60)", "outliers (5)"]
    # The name of a novel class is at the mean of its points alone.
    labels = model.labels_[model.labels_ >= 0]
    for position, text in enumerate(figure.axes[0].texts):
        mean = places[labels == position].mean(axis=0)
        np.testing.assert_allclose(text.get_position(), mean, atol=1e-5)


def test_many_classes_are_named_in_the_legend_alone(
    fitted: NovelClassDiscovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotting, "MOST_NAMES", 4)
    figure = fitted.visualize_classes()
    assert texts(figure) == []
    assert legend(figure) == ["known classes (180)", "3 (60)", "4 (60)"]


def test_large_sets_are_thinned(
    fitted: NovelClassDiscovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotting, "MOST_POINTS", 50)
    places, _, _ = points(fitted.visualize_classes())
    assert len(places) == 50


def test_a_classifier_of_known_classes_is_drawn(clouds: Clouds) -> None:
    known = clouds.truth < 2
    model = NovelClassDiscovery(random_state=0).fit(clouds.X[known], clouds.truth[known])
    figure = model.visualize_classes()
    assert texts(figure) == ["0", "1"]
    assert legend(figure) == ["known classes (120)"]
