"""Result tables as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Final

from crkd.evaluation.latex import latex_text
from crkd.evaluation.protocol_list import PROTOCOLS
from crkd.evaluation.scores import MEASURES
from crkd.evaluation.table_rows import TableRow, table_rows

CSV_COLUMNS: Final = (
    "protocol",
    "part",
    "group",
    "method",
    "num_images",
    *MEASURES,
    *(f"{measure}_std" for measure in MEASURES),
    "source",
)
_LATEX_TITLES = {"acc": "Acc", "macro_acc": "Macro acc", "nmi": "NMI", "ari": "ARI"}


def csv_table(metrics: Mapping[str, Any]) -> str:
    """Return every score of a table as CSV, with the variants and the source of each protocol.

    Values are fractions from 0 to 1, as in the JSON form. ``method`` is empty for the run itself,
    else the name of a baseline or "oracle". The columns ``..._std`` hold the standard deviation
    over heads. A cell is empty where there is no value.

    Args:
        metrics: result of :func:`crkd.evaluation.report.evaluate` or
            :func:`crkd.evaluation.any_method.evaluate_outputs`, or its JSON form.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in table_rows(metrics, variants=True):
        writer.writerow(
            [
                *(row.protocol, row.part, row.group, row.method, row.score["num_images"]),
                *(row.score[measure] for measure in MEASURES),
                *(row.spread[measure] for measure in MEASURES),
                PROTOCOLS[row.protocol].source,
            ]
        )
    return text.getvalue()


def latex_table(metrics: Mapping[str, Any]) -> str:
    r"""Return a LaTeX table in the style of the package booktabs, with the variants.

    Values are percent with one decimal, after ``\pm`` the standard deviation over heads. The
    source of each protocol is a comment above the table.

    Args:
        metrics: as for :func:`csv_table`.
    """
    rows = table_rows(metrics, variants=True)
    shown = list(dict.fromkeys(row.protocol for row in rows))
    titles = " & ".join(_LATEX_TITLES[measure] for measure in MEASURES)
    lines = [
        "% \\usepackage{booktabs}",
        *(f"% {PROTOCOLS[key].title}: {PROTOCOLS[key].source}" for key in shown),
        f"\\begin{{tabular}}{{ll{'r' * (len(MEASURES) + 1)}}}",
        "\\toprule",
        f"Protocol & Images & {titles} & $n$ \\\\",
    ]
    previous = None
    for row in rows:
        new = row.protocol != previous
        title = latex_text(PROTOCOLS[row.protocol].title) if new else ""
        lines += ["\\midrule"] if new else []
        lines.append(f"{title} & {_images(row)} & {_values(row)} & {row.score['num_images']} \\\\")
        previous = row.protocol
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _images(row: TableRow) -> str:
    place = f"{row.part} {row.group}"
    return f"{place}, {latex_text(row.method)}" if row.method else place


def _values(row: TableRow) -> str:
    cells = []
    for measure in MEASURES:
        value, spread = row.score[measure], row.spread[measure]
        if value is None:
            cells.append("--")
        else:
            deviation = "" if spread is None else f" \\pm {100 * spread:.1f}"
            # Adding zero turns -0.0 into 0.0.
            cells.append(f"${round(100 * value, 1) + 0.0:.1f}{deviation}$")
    return " & ".join(cells)
