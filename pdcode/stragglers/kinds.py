"""The kinds of delay by name."""

from __future__ import annotations

from ..config.tables import Stragglers
from .base import Model
from .bimodal import Bimodal
from .heterogeneous import Heterogeneous
from .lognormal import Lognormal
from .markov import Markov
from .none import NoDelays
from .pareto import Pareto
from .shifted_exponential import ShiftedExponential
from .slow_set import SlowSet
from .trace import Recorded

CLASSES: tuple[type[Model], ...] = (
    NoDelays, ShiftedExponential, Pareto, Bimodal, Lognormal, Markov, SlowSet, Heterogeneous, Recorded,
)  # fmt: skip
KINDS = {each.kind: each for each in CLASSES}


def create(table: Stragglers, seed: int, workers: int) -> Model:
    """Make the model of ``[stragglers]``.

    Parameters
    ----------
    table : Stragglers
        The configuration table.
    seed : int
        Seed of the run.
    workers : int
        Number of workers n.

    Raises
    ------
    InputError
        If a file of recorded delays cannot be used.
    """
    return KINDS[table.kind](table, seed, workers)
