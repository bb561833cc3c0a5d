"""Choice of the design of least coherence at a size: `design("auto", …)`."""

from math import inf, log2
from typing import Any

from .family import Family
from .registry import families

USUAL_WEIGHT = 4  # preferred weight among equally good designs
MAX_WEIGHT = 128  # largest weight that is tried, in addition to a family's default sizes
POOR_COHERENCE = 0.6  # coherence from which random rows are better


def choose(rows: int, blocks: int, limit: int) -> tuple[Family, int, dict[str, Any]]:
    """Choose a family, a weight and options for n rows and k blocks; the weight is at most `limit`.

    The design of least coherence wins; ties go to the weight nearest to 4, then to the net, then to a tight
    design, then to the first by name. If no design is good, or none has enough rows, random Gaussian rows are
    chosen.
    """
    best: tuple[Any, ...] = (inf,)
    chosen = None
    for family in families().values():
        sizes = {
            size
            for weight in (None, *range(1, min(limit, MAX_WEIGHT) + 1))
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
    if chosen is None or (best[0] > POOR_COHERENCE and limit > 1):
        return families()["random"], limit, {"entries": "gaussian"}
    return *chosen, {}
