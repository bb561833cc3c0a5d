"""signSGD with majority vote: one bit per parameter, and steps of the same length in all coordinates.

Bernstein, Wang, Azizzadenesheli and Anandkumar, "signSGD: compressed optimisation for non-convex problems",
ICML 2018. The paper's downlink is the majority vote, also of one bit. Here it is θ or, with ``downlink.kind =
"codewords"``, the workers' signs, from which every worker takes the vote itself.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ..codes import Code
from ..config import Candidates, Table, Tables
from ..config.requirements import Needs, one_of
from ..decoders import Decoder
from ..decoders.majority import MajorityDecoder
from ..schemes.base import NOT_SUMMED, UNCODED, WHITEN, WHITENING, Entrants, Scheme
from ..transport.units import Unit


class SignSGD(Scheme):
    """Signs of the gradient; rank 0 steps by their majority."""

    name = "signsgd"
    summary = "the signs of the gradient; rank 0 steps by their majority"
    entrants: ClassVar[Entrants] = {"signSGD": "", "whitened signSGD": WHITEN}
    unused = ("code", "memory", "decoder", *WHITENING)
    gradient_rate = ""
    requires: ClassVar[Needs] = {"reduce.kind": one_of("star", why=NOT_SUMMED)}
    tables: ClassVar[Tables] = {
        **UNCODED,
        "wire": {"dtype": "sign"},
        "update": {"mode": "all"},
        "optimizer": {"kind": "sgd", "rate": 0.001},
    }

    class Options(Table):
        """Keys of ``[scheme] options``: none."""

        candidates: ClassVar[Candidates] = {"wire.dtype": ("sign",)}

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        dtype = self.config.problem.dtype
        return [MajorityDecoder(unit.count, unit.shape, dtype, length=unit.length) for unit in units]
