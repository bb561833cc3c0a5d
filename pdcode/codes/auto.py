"""The design that fits a size best: `design("auto", …)`."""

from __future__ import annotations

from math import inf, log2
from typing import Any

from .family import Family
from .registry import FAMILIES

USUAL_WEIGHT = 4  # of equally good designs the one of the nearest weight is taken
HEAVIEST = 128  # of the weights that are considered, beside a family's own
POOR = 0.6  # coherence from which on random rows are better


def choose(rows: int, blocks: int, limit: int) -> tuple[Family, int, dict[str, Any]]:
    """Choose among the designs that exist for n rows and k blocks.

    The one of least coherence, which the families know in closed form; of equals the one whose weight is
    nearest to 4, then the net, then a tight one, then the first by name. Where none is good, as for more rows
    than any has, random Gaussian rows.

    Parameters
    ----------
    rows, blocks, limit : int
        n, k, and the largest weight that is allowed.

    Returns
    -------
    family : Family
    weight : int
    options : dict
    """
    best: tuple[Any, ...] = (inf,)
    chosen = None
    for family in FAMILIES.values():
        sizes = {
            size
            for weight in (None, *range(1, min(limit, HEAVIEST) + 1))
            for size in family.sizes(blocks, weight)
            if size.weight <= limit and size.near(rows) == rows
        }
        for weight in {size.weight for size in sizes}:
            coherence = family.coherence(rows, blocks, weight)
            if coherence is None or (weight == 1 and family.name != "uncoded"):
                continue
            distance, usual = abs(log2(weight / USUAL_WEIGHT)), family.name == "net"
            key = round(float(coherence), 12), distance, not usual, not family.tight, family.name
            if key < best:
                best, chosen = key, (family, weight)
    if chosen is None or (best[0] > POOR and limit > 1):
        return FAMILIES["random"], limit, {"entries": "gaussian"}
    return *chosen, {}
