"""The picture of an estimated number of classes."""

from __future__ import annotations

from pathlib import Path

from crkd.clustering.class_count.estimate import ClassCount
from crkd.core.counted import counted
from crkd.core.plots import save_plot

COLORS = ("#4269d0", "#3ca951", "#ff725c")


def write_count_plot(path: Path, count: ClassCount) -> None:
    """Draw the evidence over the number of classes, one panel for each score, as a PNG.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    evidence = count.evidence
    panels = {"stability\n(adjusted Rand)": evidence.stability, "silhouette": evidence.silhouette}
    if evidence.votes is not None:
        panels = {"held-out\nclasses (votes)": evidence.votes, **panels}
    figure = Figure(figsize=(6.4, 1.7 * len(panels) + 0.6), dpi=120, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, scores), color in zip(axes, panels.items(), COLORS, strict=False):
        if scores is evidence.votes:
            axis.vlines(evidence.counts, 0, scores, color=color, linewidth=3)
            axis.set_ylim(bottom=0)
        else:
            axis.plot(evidence.counts, scores, "o-", color=color, markersize=3.5)
        axis.axvspan(count.low - 0.5, count.high + 0.5, color="0.92", zorder=0)
        axis.axvline(count.estimate, color="0.3", linewidth=1, linestyle="--")
        axis.set_ylabel(name)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].set_xlabel("number of novel classes")
    classes = counted(count.estimate, "novel class", "novel classes")
    axes[0].set_title(f"{classes} (range {count.low} to {count.high})")
    save_plot(figure, path)
