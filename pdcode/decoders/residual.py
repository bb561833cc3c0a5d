"""The robust decoder: least squares over the arrivals that do not contradict the rest."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ..config import DecoderTable, Positive, kinds
from ..config.requirements import KeyNeeds, Need
from ..kernels import factor
from ..util.errors import InputError
from .base import Context, Decoder, finite_float, positive_int
from .linear import TILE, LinearDecoder
from .syndrome import FaultSearch, null_space

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
CANDIDATES = 8  # sets tried on the payloads themselves if the checks' Gram matrix does not distinguish them


class ResidualDecoder(LinearDecoder):
    """Robust decoder: least squares without the arrivals whose payloads contradict the others.

    Honest payloads y = Gd satisfy q - rank checks for every d; errors break them. Of the sets of at most
    `faults` arrivals that explain all broken checks, the smallest are sought. If there is exactly one and the
    rest is consistent, its arrivals are flagged. If there are several or none, no arrival is flagged and
    `consistent` is False. For codewords in general position and r codewords per arrival:

    - a payload that is wrong by more than the tolerance is detected if q - rank ≥ 1;
    - one Byzantine worker is identified if q - rank ≥ r + 1;
    - f Byzantine workers are identified if q - rank ≥ f·r + 1 and their errors are independent, or
      q - rank ≥ 2·f·r in any case (with less, their errors could imitate others' errors); sets are searched
      exhaustively up to 20,000 of a size, greedily beyond;
    - errors in an arrival that no other checks (the rank falls without it) are not detected.

    All payloads must come from the same data: sampling noise between workers counts as contradiction, and so
    does quantisation. The check is made when the gradient is needed. It takes two more passes over the
    payloads, at most checks/k of the gradient's arithmetic. Until then `captured` refers to all arrivals.

    The `tolerance` is the allowed error of a payload, relative to its norm (or to the median of those norms
    that are not zero, if that is larger): 1e-4 for float32, 1e-10 for float64, and the rounding error for
    quantised payloads. At most `checks` checks are evaluated, or 2·faults·r + 1 if that is more.
    """

    robust = True
    options = (*LinearDecoder.options, "tolerance", "faults", "checks")

    def __init__(
        self, *shape: Any, tolerance: float | None = None, faults: int = 1, checks: int = 16, **common: Any
    ) -> None:
        super().__init__(*shape, **common)
        if tolerance is None:
            self.tolerance = TOLERANCE[self.dtype.name]
        else:
            self.tolerance = finite_float("decoder.tolerance", tolerance)
        if not 0 < self.tolerance < 1:
            raise InputError(f"decoder.tolerance = {tolerance}: not between 0 and 1")
        self.faults, self.checks = (
            positive_int("decoder.faults", faults),
            positive_int("decoder.checks", checks),
        )
        self._checked: int  # number of codewords that the verdict covers
        self._flagged: list[int]
        self._consistent: bool
        self._rest: factor.Factorisation | None  # without the flagged arrivals, if any
        self._rows: np.ndarray | slice  # payload rows that are not flagged
        self._forget()

    @property
    def redundancy(self) -> int:
        """Number of checks, q - rank; without checks no error can be detected."""
        return self.count - int(self._factors.rank)

    @property
    def flagged(self) -> list[int]:
        """Indices since the last `reset`, from 0, of arrivals left out because they contradict the rest."""
        self._check()
        return list(self._flagged)

    @property
    def consistent(self) -> bool:
        """Whether the arrivals that are not flagged agree; False if the faulty ones cannot be identified."""
        self._check()
        return self._consistent

    @property
    def captured(self) -> float:
        """Captured fraction rank/k without the flagged arrivals."""
        return self._algebra.rank / self.blocks

    @property
    def decodable(self) -> bool:
        """Whether the codewords that are not flagged have rank k."""
        return self._algebra.rank == self.blocks

    @property
    def _algebra(self) -> factor.Factorisation:
        return self._rest if self._rest is not None and self._checked == self.count else self._factors

    def coefficients(self) -> np.ndarray:
        self._check()
        inverse: np.ndarray = self._algebra.pseudoinverse()
        return inverse.T

    def _used_rows(self) -> np.ndarray | slice:
        return self._rows if self._checked == self.count else slice(None)

    @property
    def residual(self) -> float:
        """Norm of y - Gĝ over the arrivals that are not flagged; computed on request, by one pass."""
        return float(np.linalg.norm(self.residuals()[self._used_rows()]))

    def _check(self) -> None:
        """Bring the verdict up to date."""
        if self._checked == self.count:
            return
        self._flagged, self._rest, self._rows, self._consistent = [], None, slice(None), True
        self._checked = self.count
        if not self.redundancy:
            return
        owners = np.repeat(np.arange(len(self._received.sizes)), self._received.sizes)
        squares = self._received.squares()
        search = self._search(self._factors.basis, slice(None), owners, squares)
        if search.consistent:
            return
        self._consistent = False
        verdicts = []
        sets = search.smallest_sets(self.faults)
        for members in sets if len(sets) <= CANDIDATES else ():
            rows = np.flatnonzero(~np.isin(owners, members))
            rest = factor.Factorisation(self.blocks, max(1, len(rows)))
            for word in self._factors.codewords[rows]:
                rest.add(word)
            if self._search(rest.basis, rows, owners[rows], squares[rows]).consistent:
                verdicts.append((list(members), rest, rows))
        if len(verdicts) == 1:
            self._consistent = True
            self._flagged, self._rest, self._rows = verdicts[0]

    def _search(
        self, basis: np.ndarray, rows: np.ndarray | slice, owners: np.ndarray, squares: np.ndarray
    ) -> FaultSearch:
        """Evaluate the checks of payload rows with the given squared norms."""
        most = max(self.checks, 2 * self.faults * max(self._received.sizes) + 1)
        matrix = null_space(basis, most)
        gram = np.zeros((matrix.shape[1], matrix.shape[1]))
        for start in range(0, self.elements, TILE):
            tile = np.empty((len(gram), min(TILE, self.elements - start)), self.dtype)
            self._received.combine(matrix, tile, start, rows)
            wide = tile.astype(np.float64)
            gram += wide @ wide.T
        slot = np.arange(len(owners)) - np.searchsorted(owners, owners)  # row within its arrival
        directions = np.zeros((len(self._received.sizes), slot.max() + 1, len(gram)))
        directions[owners, slot] = matrix
        weights = np.square(matrix).sum(axis=1)
        honest, rounding = np.zeros((2, len(directions)))
        some = squares[squares > 0]  # codewords may be zero
        allowed = self.tolerance**2 * np.maximum(squares, np.median(some) if len(some) else 0.0)
        np.add.at(honest, owners, weights * allowed)
        noise = 64.0 * float(np.finfo(self.dtype).eps)
        np.add.at(rounding, owners, weights * noise**2 * squares)
        return FaultSearch(directions, gram, honest, rounding)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._forget()

    def reset(self) -> None:
        super().reset()
        self._forget()

    def _forget(self) -> None:
        """Drop the verdict."""
        self._checked, self._flagged, self._consistent = 0, [], True
        self._rest, self._rows = None, slice(None)


class ResidualTable(DecoderTable, tag="residual"):
    """Least squares over the arrivals that do not contradict the rest."""

    #: allowed error of a payload relative to its norm; none: the wire's rounding error
    tolerance: Annotated[float, Meta(gt=0, lt=1)] | None = None
    faults: Positive = 1  #: maximum number of faulty arrivals that are searched for

    makes: ClassVar[type[Decoder]] = ResidualDecoder
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            "wire.dtype": Need(
                lambda wire, config: wire.error is not None or config.decoder.tolerance is not None,
                "a finer format, or decoder.tolerance",
                "takes such rounding errors for faults",
                of_kind=True,
            )
        }
    }

    def options(self, context: Context) -> dict[str, Any]:
        rounding = kinds.find("wires", context.wire).error if context.wire else None
        return {"tolerance": self.tolerance or rounding or None, "faults": self.faults}
