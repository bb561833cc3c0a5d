"""SparseLoCo: H local steps of AdamW, then the largest elements of a decaying memory, in 2 bits each.

Sarfi, Thérien, Lidin and Belilovsky, "Communication efficient LLM pre-training with SparseLoCo", arXiv
2508.15706, 2025. Worker i moves θ by H steps of AdamW to θ_i, as in DiLoCo. Error feedback that decays
replaces the momentum at rank 0: e ← βe + θ - θ_i. The worker sends Q, the largest elements of every chunk of
e, rounded to 2 bits, and retains e - Q. Rank 0 steps by the mean of Q over the workers.

Only excerpts of the paper were at hand. From the authors' public code (github.com/tplr-ai/templar) are β =
0.95; rate 1 at rank 0; 64 elements of chunks of 4,096, with indices of 12 bits; each element rounded to the
mean of one of four bins; and the clip: a worker's payload of a layer is scaled by min(1, median/norm), where
median is the (lower) median of the norms of all payloads of that layer. The clipped part is lost, as workers
do not learn of it. That code averages an element over the workers that sent it, ``mean = "senders"``; the
paper divides by all workers. Its H of 30 and β2 of 0.95 in AdamW are for language models; here the defaults
are as in ``diloco``.

This project's: chunks are runs of a layer's parameters, the last one possibly short, instead of squares of
a weight matrix; bins are as in wire format ``int2``, two magnitudes for each 1,024 elements sent, instead
of four means for a layer; late payloads, which return to their worker's memory; and the relay.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from ..codes import Code
from ..config import Candidates, Config, Positive, Tables
from ..config.requirements import Need, Needs, one_of
from ..decoders import Decoder
from ..decoders.adjoint import AdjointDecoder
from ..kernels import decode
from ..schemes.base import EXCHANGE, FIRST, WHITEN, WHITENING, Entrants
from ..schemes.topk import TopK
from ..transport.codewords import Chunks
from ..transport.units import Unit
from .diloco import DiLoCo


class BufferedMean(AdjointDecoder):
    """Mean of payloads of single elements, which are buffered until the gradient is needed.

    The accumulator has the sum, then room for the payloads of an update and their indices, so that it is the
    whole state of a replica. `rows` is the number of elements of a payload. With `senders` the mean of an
    element is over the payloads that have it, else over all workers; with `clips` payloads are scaled down to
    their median norm.
    """

    def __init__(
        self, *shape: Any, workers: int, rows: int, senders: bool, clips: bool, **common: Any
    ) -> None:
        super().__init__(*shape, scale=1.0 if senders else 1 / workers, **common)
        size, buffered = len(self.accumulator), workers * rows
        self.accumulator = np.zeros(size + 2 * buffered, self.dtype)
        self.target, self._elements = self.accumulator[: self.length], rows
        self._payloads = self.accumulator[size : size + buffered].reshape(workers, rows, 1)
        indices = self.accumulator[size + buffered :].view(np.int32)[:buffered]
        self._indices = indices.reshape(workers, rows, 1)
        self._ones, self._senders, self._clips = np.ones((rows, 1), self.dtype), senders, clips

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        number = self.count // self._elements
        np.multiply(payload, values, out=self._payloads[number])
        self._indices[number] = indices
        self.count += len(payload)

    def solve(self) -> None:
        for places in self.touched:
            self.target[places] = 0
        payloads = self._payloads[: self.count // self._elements]
        self.touched[:] = self._indices[: len(payloads)]
        factors = clip_factors(payloads) if self._clips else np.ones(len(payloads))
        for places, payload, factor in zip(self.touched, payloads, factors, strict=True):
            decode.adjoint_decode(self.target, places, self._ones, payload, factor)
        if self._senders and self.touched:
            sent = np.bincount(np.concatenate(self.touched, axis=None), minlength=self.length)
            self.target /= np.maximum(sent, 1).astype(self.dtype)


def clip_factors(payloads: np.ndarray) -> np.ndarray:
    """Return factors, shape (q,), that scale payloads, shape (q, r, 1), down to their median norm."""
    if not len(payloads):
        return np.empty(0)
    largest = float(np.abs(payloads).max())  # its square may overflow
    norms = np.sqrt(np.square(payloads / np.float64(largest or 1)).sum(axis=(1, 2)))
    median = np.sort(norms)[(len(norms) - 1) // 2]
    return np.divide(median, norms, out=np.ones(len(norms)), where=norms > median)


COMPARES_PAYLOADS = (
    "compares the payloads at the newest θ, unless scheme.options.clip = false and mean = 'workers'"
)


def needs_each_payload(config: Config) -> bool:
    """Return whether rank 0 needs an update's payloads one by one, not only their sum."""
    return bool(config.scheme.options.clip or config.scheme.options.mean == "senders")


class SparseLoCo(TopK, DiLoCo):
    """H local steps of AdamW, then the largest elements of a decaying memory of displacements, in 2 bits."""

    name = "sparseloco"
    summary = "H steps of AdamW, then the largest elements of the displacements; norms clipped to the median"
    entrants: ClassVar[Entrants] = {
        "SparseLoCo": f"{FIRST}{EXCHANGE}",
        "whitened SparseLoCo": f"{FIRST}{EXCHANGE}{WHITEN}",
    }
    presets: ClassVar[Mapping[str, Tables]] = {}  # not the presets of `topk`, which are for gradients
    unused = ("code", "decoder", *WHITENING)
    requires: ClassVar[Needs] = {
        **TopK.requires,
        "memory.kind": one_of("worker", why="has error feedback"),
        "update.mode": Need(
            lambda update, config: (
                not (update.by_fraction or (update.asynchronous and needs_each_payload(config)))
            ),
            "a mode that counts several payloads, such as 'all'",
            COMPARES_PAYLOADS,
            of_kind=True,
        ),
        "update.late": one_of("waste", why=COMPARES_PAYLOADS, when=needs_each_payload),
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

        candidates: ClassVar[Candidates] = {**DiLoCo.Options.candidates, "largest": (16, 64, 256)}

    def chunks(self, units: Sequence[Unit]) -> list[Chunks]:
        sizes = [min(self.options.chunk, unit.count) for unit in units]
        return [Chunks(size, min(self.options.largest, size)) for size in sizes]

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        options, dtype = self.options, self.config.problem.dtype
        if not needs_each_payload(self.config):
            return super().decoders(units, designs)
        how = {"workers": self.workers, "senders": options.mean == "senders", "clips": options.clip}
        return [
            BufferedMean(unit.count, unit.shape, dtype, length=unit.length, rows=rows, **how)
            for unit, rows in zip(units, self.codewords(units).rows, strict=True)
        ]
