"""The summing decoder: rank 0's side of memory ``difference``."""

from typing import Any, ClassVar

from ..config import DecoderTable
from ..config.requirements import KeyNeeds, having
from .adding import AddingDecoder
from .base import Context, Decoder, positive_int


class SummingDecoder(AddingDecoder):
    """Summing decoder: ĝ = Σ g_i ⊗ y_i / n over all arrivals since the start, for n = `mean_of` workers.

    Workers send codewords of the difference between their gradient and rank 0's copy of it. ĝ is the mean of
    these copies over the workers: EF21 (Richtárik, Sokolov and Fatkhullin, NeurIPS 2021). `reset` does not
    clear it. O(w·e) for each codeword.
    """

    options = (*Decoder.options, "mean_of")

    def __init__(self, *shape: Any, mean_of: int = 1, **common: Any) -> None:
        super().__init__(*shape, **common)
        self.mean_of = positive_int("decoder.mean_of", mean_of)

    @property
    def scale(self) -> float:
        return 1 / self.mean_of

    def reset(self) -> None:
        """Begin a new update and keep the sum."""
        self.count = 0


class SummingTable(DecoderTable, tag="summing"):
    """The sum of all arrivals since the start, for memory ``difference``."""

    makes: ClassVar[type[Decoder]] = SummingDecoder
    relays: ClassVar[bool] = True
    adds: ClassVar[bool] = True
    requires: ClassVar[KeyNeeds] = {
        "kind": {"memory.kind": having("decoder", "'difference'", "adds up differences", value="summing")}
    }

    def options(self, context: Context) -> dict[str, Any]:
        return {"mean_of": context.workers}
