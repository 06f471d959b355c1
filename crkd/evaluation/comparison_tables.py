"""Tables of groups of runs: for a terminal and for LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crkd.evaluation.comparison import (
    CONFIDENCE,
    Group,
    PairedDifference,
    Statistic,
    metrics_of,
)
from crkd.evaluation.report import PROTOCOLS
from crkd.evaluation.tables import protocol_title

if TYPE_CHECKING:
    from rich.table import Table

MEANS: Final = (
    "Percent: mean ± sample standard deviation over seeds.\n"
    "(n): only n runs of the group have the metric."
)
DIFFERENCES: Final = (
    "Points, paired by seed: mean ± sample standard deviation (number of pairs),\n"
    f"[{CONFIDENCE:.0%} confidence interval] of the paired t-test, without correction for\n"
    "several comparisons."
)


@dataclass(frozen=True)
class Section:
    """Metrics that are columns of one table.

    Attributes:
        title: the protocol, for example "task-aware".
        columns: metric -> title of its column.
    """

    title: str
    columns: Mapping[str, str]


def sections(groups: Iterable[Group]) -> list[Section]:
    """Return the metrics of groups by protocol; heads picked by hidden labels are left out.

    Protocols of the runs come first, those of the simple baselines of a run last.
    """
    found: dict[str, dict[str, str]] = {}
    for metric in sorted(metrics_of(groups), key=_order):
        *above, part, group = metric.split("/")
        if above[:1] == ["oracle"]:
            continue
        title = _title(above) if above else part
        found.setdefault(title, {})[metric] = f"{part} {group}" if above else group
    return [Section(title, columns) for title, columns in found.items()]


def _without_baselines(found: Iterable[Section]) -> list[Section]:
    return [section for section in found if not any(map(_is_baseline, section.columns))]


def _is_baseline(metric: str) -> bool:
    return metric.count("/") > 2


def _order(metric: str) -> tuple[bool, int]:
    """Return the place of a metric; those of one protocol keep their order."""
    protocol = metric.split("/")[-3:][0]
    order = [*PROTOCOLS]
    return _is_baseline(metric), order.index(protocol) if protocol in order else len(order)


def _title(parts: Sequence[str]) -> str:
    *baseline, protocol = parts
    return ", ".join([*(_words(name) for name in baseline), protocol_title(protocol)])


def _words(name: str) -> str:
    return name.replace("kmeans", "k-means").replace("_", " ")


def legend(groups: Sequence[Group]) -> Table:
    """Return a table of the groups: name, number of runs or plans, seeds."""
    from rich.text import Text

    table = _table("groups", {"runs": "runs", "seeds": "seeds"})
    for group in groups:
        table.add_row(Text(group.name), str(len(group.entries)), _seeds(group))
    return table


def group_tables(groups: Sequence[Group]) -> list[Table]:
    """Return one table for each protocol; rows are groups, cells mean ± standard deviation.

    A value of one run has no deviation. A cell says its number of runs if some runs of the group
    lack the metric.
    """
    from rich.text import Text

    tables = []
    for section in sections(groups):
        table = _table(section.title, section.columns)
        for group in groups:
            values = [group.statistic(metric) for metric in section.columns]
            if any(values):
                cells = [statistic_text(value, group) for value in values]
                table.add_row(Text(group.name), *cells)
        tables.append(table)
    return tables


def difference_tables(groups: Sequence[Group], reference: Group) -> list[Table]:
    """Return one table for each protocol of the paired differences of groups and a reference.

    The simple baselines that each run has too are left out.
    """
    from rich.text import Text

    tables = []
    for section in _without_baselines(sections(groups)):
        table = _table(section.title, section.columns)
        for group in groups:
            found = [group.minus(reference, metric) for metric in section.columns]
            if group is not reference and any(found):
                table.add_row(Text(group.name), *map(difference_text, found))
        if table.row_count:
            tables.append(table)
    return tables


def _table(title: str, columns: Mapping[str, str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(title, style="bold"))
    table.title_justify = "left"
    table.add_column("group", overflow="fold", min_width=12)
    for name in columns.values():
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table


def _seeds(group: Group) -> str:
    """Return the seeds of a group, such as "0-2, 5"."""
    spans: list[list[int]] = []
    for seed in group.seeds:
        if spans and seed == spans[-1][-1] + 1:
            spans[-1].append(seed)
        else:
            spans.append([seed])
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def statistic_text(found: Statistic | None, group: Group) -> str:
    """Return "61.2 ± 0.4", with "(n)" if not every entry of the group has the metric."""
    if found is None:
        return "-"
    spread = "" if found.std is None else f" ± {100 * found.std:.1f}"
    count = "" if found.n == len(group.entries) else f" ({found.n})"
    return f"{_percent(found.mean)}{spread}{count}"


def difference_text(found: PairedDifference | None) -> str:
    """Return "+1.2 ± 0.4 (3)" and a line with the interval "[0.2, 2.2]"."""
    if found is None:
        return "-"
    if found.std is None or found.low is None or found.high is None:
        return f"{_percent(found.mean, sign=True)} (1)"
    interval = f"[{_percent(found.low)}, {_percent(found.high)}]"
    return f"{_percent(found.mean, sign=True)} ± {100 * found.std:.1f} ({found.n})\n{interval}"


def _percent(value: float, *, sign: bool = False) -> str:
    # Adding zero turns -0.0 into 0.0.
    rounded = round(100 * value, 1) + 0.0
    return f"{rounded:+.1f}" if sign and rounded else f"{rounded:.1f}"


def latex_table(groups: Sequence[Group]) -> str:
    r"""Return a LaTeX table of groups of one kind, for the package booktabs.

    Rows are groups, columns are the metrics of the protocols; the baselines that each run has too
    are left out. :func:`latex_text` makes every text safe.
    """
    shown = _without_baselines(sections(groups))
    metrics = [metric for section in shown for metric in section.columns]
    heads, rules, column = [], [], 3
    for section in shown:
        last = column + len(section.columns) - 1
        heads.append(f"\\multicolumn{{{len(section.columns)}}}{{c}}{{{latex_text(section.title)}}}")
        rules.append(f"\\cmidrule(lr){{{column}-{last}}}")
        column = last + 1
    titles = [latex_text(title) for section in shown for title in section.columns.values()]
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        "  \\caption{Accuracy (\\%), mean $\\pm$ sample standard deviation over $n$ seeds.}",
        f"  \\begin{{tabular}}{{l r {' '.join('c' * len(metrics))}}}",
        "    \\toprule",
        f"    & & {' & '.join(heads)} \\\\",
        f"    {' '.join(rules)}",
        f"    method & $n$ & {' & '.join(titles)} \\\\",
        "    \\midrule",
    ]
    for group in groups:
        cells = [_latex_cell(group.statistic(metric), group) for metric in metrics]
        row = [latex_text(group.name), str(len(group.entries)), *cells]
        lines.append(f"    {' & '.join(row)} \\\\")
    return "\n".join([*lines, "    \\bottomrule", "  \\end{tabular}", "\\end{table}", ""])


def _latex_cell(found: Statistic | None, group: Group) -> str:
    if found is None:
        return "--"
    spread = "" if found.std is None else f" \\pm {100 * found.std:.1f}"
    count = "" if found.n == len(group.entries) else f"\\;(n={found.n})"
    return f"${_percent(found.mean)}{spread}{count}$"


_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    r"""Return a text in which LaTeX finds no command.

    >>> latex_text("50% of a_b & {c}")
    '50\\% of a\\_b \\& \\{c\\}'
    """
    return re.sub(r"[\\~^<>&%$#_{}]", lambda sign: _LATEX[sign[0]], " ".join(text.split()))
