"""Ringmaster Muon: asynchronous steps of Muon, without the gradients whose delay is R or more.

Sadiev, Maranjyan, Ilin and Richtárik, "Ringmaster LMO: asynchronous linear minimization oracle momentum
method", arXiv 2605.18174, 2026. Every gradient g of a delay less than R enters a momentum at rank 0,
m ← (1 - α)m + αg, and makes a step of fixed length η along the point of the unit ball that minimises ⟨m, ·⟩.
The ball is of the spectral norm for weights, whose minimiser Newton–Schulz steps approximate, as in
Muon, and of the largest element for biases, whose minimiser has their signs.

Source: the abstract, and descriptions of the algorithm, not the paper itself. This project's: R as in
`ringmaster`; Muon's scale √max(1, d_out/d_in); α = 0.1, as ``optimizer.momentum`` = 1 - α. The variant with
decreasing steps and thresholds is left out.
"""

from typing import ClassVar

from ..config import Tables
from ..config.requirements import Needs, one_of
from ..schemes.base import WHITEN, Entrants
from .ringmaster import Ringmaster


class RingmasterMuon(Ringmaster):
    """Ringmaster Muon: steps of Muon by single gradients; gradients of delay R and more are dropped."""

    name = "ringmaster-muon"
    summary = "full gradients, a step of Muon each; gradients of delay R and more are dropped"
    entrants: ClassVar[Entrants] = {"Ringmaster Muon": "", "whitened Ringmaster Muon": WHITEN}
    requires: ClassVar[Needs] = {"optimizer.kind": one_of("muon", why="orthogonalises its momentum")}
    tables: ClassVar[Tables] = {
        **Ringmaster.tables,
        "optimizer": {"kind": "muon", "rate": 0.01, "momentum": 0.9, "nesterov": False},
    }
