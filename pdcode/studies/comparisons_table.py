"""The table of several comparisons: each scheme's time in each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..analysis import printing
from ..util.formats import DASH, number, ratio
from .comparison import Comparison

if TYPE_CHECKING:
    from rich.console import Console

    from .ranking import Row


def show(comparisons: Sequence[Comparison], names: Sequence[str], console: Console | None = None) -> None:
    """Print `sections`, and of two comparisons the agreement of their orders."""
    printing.show(sections(comparisons, names), console)
    if len(comparisons) == 2:
        tau, common = agreement(*comparisons)
        print(f"Order of the {common} schemes that both have: Kendall's τ = {number(tau, 2)}")


def sections(comparisons: Sequence[Comparison], names: Sequence[str]) -> list[printing.Section]:
    """Return a table with a line for each scheme, its time as a multiple of the first's in each comparison.

    Schemes are ranked by the number of comparisons that do not have them or in which a run missed the target,
    then by the geometric mean of the multiples.
    """
    table = printing.make_table("", "scheme", *names, "mean", left=("scheme",), fold=False)
    for place, (name, rows) in enumerate(standings(comparisons).items(), 1):
        fell_short, mean = _key(rows)
        cells = [DASH if row is None else row.speedup.text for row in rows]
        table.add_row(str(place), name, *cells, DASH if fell_short else ratio(mean))
    texts = [
        "Time to the target as a multiple of the first's in the same comparison, the geometric mean over its "
        "seeds; > where runs missed the target, with the least that the multiple can be. Mean: geometric, of "
        "schemes that always reached it. `pdcode show` of one file has the rest.",
        *(f"{name}: {each.title}." for name, each in zip(names, comparisons, strict=True)),
    ]
    orders = printing.make_table("", *names, left=("",), fold=False)
    for one, first in zip(names, comparisons, strict=True):
        orders.add_row(one, *(number(agreement(first, other)[0], 2) for other in comparisons))
    found: list[printing.Section] = [("", [table, *map(printing.note, texts)])]
    if len(comparisons) > 2:
        found.append(("Kendall's τ of the orders of common schemes", [orders]))
    return found


def standings(comparisons: Sequence[Comparison]) -> dict[str, list[Row[str] | None]]:
    """Return each scheme's rows, one for each comparison, None where it is missing; the best scheme first."""
    found = [{row.candidate: row for row in each.rows} for each in comparisons]
    rows = {name: [each.get(name) for each in found] for each in found for name in each}
    return dict(sorted(rows.items(), key=lambda item: _key(item[1])))


def agreement(first: Comparison, second: Comparison) -> tuple[float, int]:
    """Return Kendall's τ-b of the orders of the schemes that two comparisons share, and their number.

    τ is nan for fewer than two schemes. Schemes with the same number of runs that missed the target share a
    place, because the lengths of these runs are no measure.
    """
    from scipy.stats import kendalltau

    places = [
        {row.candidate: len(rows) + row.missed if row.missed else place for place, row in enumerate(rows)}
        for rows in (each.rows for each in (first, second))
    ]
    common = places[0].keys() & places[1].keys()
    if len(common) < 2:
        return math.nan, len(common)
    return float(kendalltau(*([each[name] for name in common] for each in places)).statistic), len(common)


def _key(rows: Sequence[Row[str] | None]) -> tuple[int, float]:
    """Return the number of comparisons in which a scheme is missing or missed the target, and its mean."""
    present = [row for row in rows if row is not None]
    multiples = [row.speedup.ratio.mean for row in present if row.speedup.ratio.mean > 0]
    mean = math.exp(np.mean(np.log(multiples))) if multiples else math.inf
    return len(rows) - sum(not row.missed for row in present), mean
