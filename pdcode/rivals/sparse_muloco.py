"""SparseLoCo with Muon: H local steps of Muon, then the largest elements of a decaying memory, in 2 bits.

Thérien, Huang, Rish and Belilovsky, "MuLoCo: Muon is a practical inner optimizer for DiLoCo", arXiv
2505.23725, 2025, also sparsify the displacements of Muon, with error feedback. The compression, and the step
without a momentum at rank 0, are as in `sparseloco` here, and the local steps are as in `muloco`.
"""

from typing import ClassVar, Literal

from ..config import Candidates, Positive
from .muloco import MuLoCo
from .sparseloco import SparseLoCo


class SparseMuLoCo(MuLoCo, SparseLoCo):
    """H local steps of Muon, then the largest elements of a decaying memory of displacements, in 2 bits."""

    name = "sparse-muloco"
    summary = "H steps of Muon, then the largest elements of the displacements; norms clipped to the median"
    tables, presets = SparseLoCo.tables, SparseLoCo.presets

    class Options(MuLoCo.Options):
        """Keys of ``[scheme] options``: the keys of `muloco` and of `sparseloco`."""

        chunk: Positive = 4096  #: elements of a chunk; the last one of a layer may have fewer
        largest: Positive = 64  #: elements of each chunk that a task sends; all of a smaller chunk
        #: whether the mean of an element is over all "workers" or over the "senders" of it
        mean: Literal["workers", "senders"] = "workers"
        clip: bool = True  #: whether rank 0 scales the payloads of a layer down to their median norm

        candidates: ClassVar[Candidates] = {**MuLoCo.Options.candidates, "largest": (16, 64, 256)}
