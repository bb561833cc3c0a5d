"""SparseLoCo: H local steps of AdamW, then the largest elements of a decaying memory, in 2 bits each.

Sarfi, Thérien, Lidin and Belilovsky, "Communication efficient LLM pre-training with SparseLoCo", arXiv
2508.15706, 2025. Worker i moves θ by H steps of AdamW to θ_i, as in DiLoCo. In place of a momentum at rank 0
it has error feedback that decays: e ← βe + θ - θ_i. It sends Q, the largest elements of every chunk of e,
rounded to 2 bits, and keeps e - Q. Rank 0 steps by the mean of Q over the workers.

From the authors' public code (github.com/tplr-ai/templar), since only excerpts of the paper were at hand:
β = 0.95; rate 1 at rank 0; 64 elements of chunks of 4,096, with indices of 12 bits; each becomes the mean of
one of four bins; and the clip: a worker's payload of a layer is scaled by min(1, median/norm), the median
being that of the norms of all payloads of that layer, of an even number the lower of the two in the middle.
What the clip takes away is lost, as workers do not learn of it. That code takes the mean of an element over
the workers that sent it, ``mean = "senders"``, where the paper divides by all of them. Its H of 30 and its β2
of 0.95 in AdamW are for language models; here the defaults are those of ``diloco``.

This project's: chunks are runs of a layer's parameters, the last of which may be short, where the code has
squares of a weight matrix; bins are those of wire format ``int2``, two magnitudes for each 1,024 elements
sent, where the code has four means for a layer; late payloads, which go back into their worker's memory; and
the relay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from ..codes import Code
from ..config import Config, Positive, Tables
from ..config.requirements import Need, Needs, one_of
from ..decoders import Decoder
from ..decoders.adjoint import AdjointDecoder
from ..problems.partition import Unit
from ..transport.codewords import Chunks
from .diloco import DiLoCo
from .topk import TopK


class KeptMean(AdjointDecoder):
    """Mean of payloads of single elements, which are kept until it is asked for.

    The accumulator has room behind the sum for the payloads of an update and their indices: it is all that a
    replica needs.

    Parameters
    ----------
    blocks, block_shape, dtype, length
        As for `Decoder`.
    workers : int
        Number of workers n; an update has at most as many payloads.
    rows : int
        Elements r of a payload.
    senders : bool
        Whether the mean of an element is over the payloads that have it; else over all workers.
    clips : bool
        Whether payloads are scaled down to their median norm.
    """

    def __init__(
        self, *shape: Any, workers: int, rows: int, senders: bool, clips: bool, **common: Any
    ) -> None:
        super().__init__(*shape, scale=1.0 if senders else 1 / workers, **common)
        size, held = len(self.accumulator), workers * rows
        self.accumulator = np.zeros(size + 2 * held, self.dtype)
        self.target, self._elements = self.accumulator[: self.length], rows
        self._payloads = self.accumulator[size : size + held].reshape(workers, rows, 1)
        self._places = self.accumulator[size + held :].view(np.int32)[:held].reshape(workers, rows, 1)
        self._ones, self._senders, self._clips = np.ones((rows, 1), self.dtype), senders, clips

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        number = self.count // self._elements
        np.multiply(payload, values, out=self._payloads[number])
        self._places[number] = indices
        self.count += len(payload)

    def solve(self) -> None:
        for places in self.touched:
            self.target[places] = 0
        payloads = self._payloads[: self.count // self._elements]
        self.touched[:] = self._places[: len(payloads)]
        factors = clip(payloads) if self._clips else np.ones(len(payloads))
        for places, payload, factor in zip(self.touched, payloads, factors, strict=True):
            self._decode(self.target, places, self._ones, payload, factor)
        if self._senders and self.touched:
            sent = np.bincount(np.concatenate(self.touched, axis=None), minlength=self.length)
            self.target /= np.maximum(sent, 1).astype(self.dtype)


def clip(payloads: np.ndarray) -> np.ndarray:
    """Return the factor of each payload, at most 1, that brings its norm down to the median of the norms.

    Parameters
    ----------
    payloads : ndarray, shape (q, r, 1)
        Of finite numbers.

    Returns
    -------
    ndarray, shape (q,), float64
    """
    if not len(payloads):
        return np.empty(0)
    largest = float(np.abs(payloads).max())  # whose square may be out of range
    norms = np.sqrt(np.square(payloads / np.float64(largest or 1)).sum(axis=(1, 2)))
    median = np.sort(norms)[(len(norms) - 1) // 2]
    return np.divide(median, norms, out=np.ones(len(norms)), where=norms > median)


COMPARES = "compares the payloads at the newest θ, unless scheme.options.clip = false and mean = 'workers'"


def keeps_payloads(config: Config) -> bool:
    """Return whether rank 0 needs an update's payloads one by one, not only their sum."""
    return bool(config.scheme.options.clip or config.scheme.options.mean == "senders")


class SparseLoCo(TopK, DiLoCo):
    """H local steps of AdamW, then the largest elements of a decaying memory of displacements, in 2 bits."""

    name = "sparseloco"
    summary = "H steps of AdamW, then the largest elements of the displacements; norms clipped to the median"
    unused = ("code", "decoder")
    requires: ClassVar[Needs] = {
        **TopK.requires,
        **DiLoCo.requires,
        "memory.kind": one_of("worker", why="has error feedback"),
        "update.mode": Need(
            lambda update, config: (
                not (update.by_fraction or (update.asynchronous and keeps_payloads(config)))
            ),
            "a mode that counts several payloads, such as 'all'",
            COMPARES,
            of_kind=True,
        ),
        "update.late": one_of("waste", why=COMPARES, when=keeps_payloads),
    }
    tables: ClassVar[Tables] = {
        **TopK.tables,
        "memory": {"kind": "worker", "keep": 0.95},
        "wire": {"dtype": "int2"},
        "update": {"mode": "all", "late": "waste"},
        "optimizer": {"kind": "sgd", "rate": 1.0},
    }

    class Options(DiLoCo.Options):
        """Keys of ``[scheme] options``."""

        chunk: Positive = 4096  #: elements of a chunk; the last one of a layer may have fewer
        largest: Positive = 64  #: elements of each chunk that a task sends; all of a smaller chunk
        #: whether the mean of an element is over all "workers" or over the "senders" of it
        mean: Literal["workers", "senders"] = "workers"
        clip: bool = True  #: whether rank 0 scales the payloads of a layer down to their median norm

    def chunks(self, units: Sequence[Unit]) -> list[Chunks]:
        sizes = [min(self.options.chunk, unit.count) for unit in units]
        return [Chunks(size, min(self.options.largest, size)) for size in sizes]

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        options, dtype = self.options, self.config.problem.dtype
        if not keeps_payloads(self.config):
            return super().decoders(units, designs)
        how = {"workers": self.workers, "senders": options.mean == "senders", "clips": options.clip}
        return [
            KeptMean(unit.count, unit.shape, dtype, length=unit.length, rows=rows, **how)
            for unit, rows in zip(units, self.codewords(units).rows, strict=True)
        ]
