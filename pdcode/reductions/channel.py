"""Sums over a noisy channel that adds what all workers send at once: on the virtual clock alone.

A use of the channel gives rank 0 the sum of a number of each worker, plus normal noise; each worker has the
same mean power. *Together*, workers send codewords of their integers modulo m = 2^bits as m levels, dithered,
so that all levels are equally likely; rank 0 rounds the sum and takes it modulo m. That is a channel which
adds modulo m, and a sum of codewords is the codeword of the sum of integers. Rank 0 decodes this sum, not the
payloads. Its law is far from uniform, as sums have room: codewords of sums are a quasi group code.
*Separately*, workers send one after another, and *analog*, elements are sent as they are.

The sums are computed, and then encoded and disturbed: the same integers as if each worker encoded its own.
Not on the channel: headers, scales, and the magnitudes from which the first scales follow. Checksums are not
sent either: together, wraps are not found, and wrongly decoded integers enter the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from ..config.requirements import KeyNeeds, Need, having, none_of, unrounded
from ..kernels import modular
from ..quasigroup.laws import rounded_normal
from ..quasigroup.trellis import MOST_BRANCHES, TrellisCode
from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.sums import Sum
from ..util import rng
from .allreduce import Allreduce, SummedTable
from .modular import MARGIN, ModularState
from .states import Gathered, GatheringState

if TYPE_CHECKING:
    from ..coding.state import Coded, State
    from ..config import Config
    from ..session.setup import Components

BLOCK = 64  # inputs of a codeword
LARGEST = 3.2  # standard deviations of the largest of 1,024 sums


class Channel(Allreduce):
    """All workers send at once over a channel that adds; rank 0 decodes the sum, and broadcasts it."""

    virtual_only = True

    @property
    def reproducible(self) -> bool:
        return True

    @property
    def owners(self) -> int:
        return 0

    def state(self, state: Coded) -> State:
        return state if self.config.reduce.bits is None else ChannelState(state, self.config)

    def simulated(self, state: State) -> State:
        return AnalogState(state, self.config) if self.config.reduce.bits is None else state

    def exchanged_bytes(self, layout: Layout) -> int:
        """Return the uses of the channel by a worker: one takes the time of a byte, and counts as one."""
        table: Any = self.config.reduce
        if table.send == "analog":
            return layout.payload_size
        return -(-layout.payload_size // BLOCK) * (BLOCK + table.span) * table.uses

    def sum_s(self, components: Components, layout: Layout) -> float:
        """Return the time of all uses of the channel, and of the broadcast of the sum over as many."""
        table: Any = self.config.reduce
        link = self.config.link
        senders = self.config.workers.count if table.send == "separately" else 1
        return 2 * link.latency_s + (senders + 1) * self.exchanged_bytes(layout) / link.bandwidth


class ChannelState(ModularState):
    """State that adds up payloads modulo 2^bits as a channel does, and decodes the sum, or each payload.

    Attributes
    ----------
    law : ndarray, shape (2^bits,)
        Law of what is decoded: of sums like those decoded last, or uniform if the code is a group.
    errors, symbols : int
        Integers decoded wrongly so far, and all.
    """

    state_names: ClassVar[tuple[str, ...]] = (*ModularState.state_names, "law", "errors", "symbols")

    def __init__(self, state: Coded, config: Config) -> None:
        super().__init__(state, config)
        table: Any = config.reduce
        m = 1 << table.bits
        self._apart, self._seed = table.send == "separately", config.seed
        self._group = table.code == "group"
        self._noise = rounded_normal(deviation(m, table.snr), m)
        spread = m / 2 / MARGIN / LARGEST / (config.workers.count**0.5 if self._apart else 1.0)
        self._designed = np.full(m, 1 / m) if self._group else rounded_normal(spread, m)
        self._code = TrellisCode.designed(m, table.uses, table.span, self._designed, self._noise, config.seed)
        self._wide = rounded_normal(2 * spread, m)  # the largest sums, of whatever law
        self.law, self.errors, self.symbols = self._designed.copy(), 0, 0

    def fold(self, arrival: Arrival) -> float:
        if self._apart:
            self._receive(arrival.body.view(np.uint64), arrival.worker)
        return super().fold(arrival)

    def step(self, damping: float) -> float | None:
        if not self._apart:
            self._receive(self._sum.words, 0)
        return super().step(damping)

    def _receive(self, words: np.ndarray, worker: int) -> None:
        """Replace integers by what rank 0 decodes of them; groups without a scale have none."""
        blocks, m = self._blocks, 1 << self._blocks.bits
        known = self.scales > 0
        if not known.any():
            return
        parts = words.reshape(blocks.groups, blocks.words)
        shifts = np.arange(64 // blocks.bits, dtype=np.uint64) * np.uint64(blocks.bits)
        lanes = parts[:, : -modular.EXTRA, None] >> shifts & np.uint64(m - 1)
        sent = lanes.reshape(blocks.groups, -1)[:, : blocks.group].astype(np.int64)
        found = sent.copy()
        found[known] = self._decoded(sent[known], worker)
        self.errors, self.symbols = self.errors + int((found != sent).sum()), self.symbols + found[known].size
        signed = (found + m // 2) % m - m // 2
        payload = self._sum.payload  # its checksums are those of the decoded integers
        values = (signed * self.scales[:, None]).astype(payload.dtype).reshape(-1)[: payload.size]
        again = np.empty_like(words)
        modular.encode(values, self.scales, blocks.group, again, blocks.bits)
        parts[known, :-1] = again.reshape(parts.shape)[known, :-1]

    def _decoded(self, sent: np.ndarray, worker: int) -> np.ndarray:
        """Return the integers that rank 0 decodes, in the shape of those sent; learn their law."""
        code, m = self._code, self._code.modulus
        random = rng.generator(self._seed, rng.CHANNEL, self._version, worker)
        inputs = np.zeros((-(-sent.size // BLOCK), BLOCK), np.int64)
        inputs.reshape(-1)[: sent.size] = sent.reshape(-1)
        codewords = code.encode(inputs)
        noise = random.choice(m, codewords.shape, p=self._noise)
        found = code.decode((codewords + noise) % m, self._noise, self.law).reshape(-1)[: sent.size]
        if not self._group:
            counts = np.bincount(found, minlength=m)
            self.law = 0.5 * self.law + 0.4 * counts / counts.sum() + 0.1 * self._wide
        return found.reshape(sent.shape)


class AnalogState(GatheringState):
    """State of sums of elements as they are, with noise relative to the mean power of all workers."""

    state_names = (*GatheringState.state_names, "_received")

    def __init__(self, state: State, config: Config) -> None:
        super().__init__(state, config, Sum(state.layouts[0], 0, config.workers.count))
        table: Any = config.reduce
        self._seed, self._ratio, self._received = config.seed, 10 ** (-table.snr / 20), 0

    def add_up(self, gathered: Sequence[Gathered]) -> None:
        random = rng.generator(self._seed, rng.CHANNEL, self._received)
        self._received += 1
        every = [payloads for *_, payloads in gathered]
        squares = sum(float(np.vdot(part, part)) for payloads in every for part in payloads)
        scale = self._ratio * (squares / sum(part.size for payloads in every for part in payloads)) ** 0.5
        for total, parts in zip(self.total.reply.payloads, zip(*every, strict=True), strict=True):
            total[:] = np.sum(parts, axis=0) + scale * random.standard_normal(total.shape)


def deviation(modulus: int, snr: float) -> float:
    """Return the standard deviation of the noise in steps between m levels of power snr [dB] above it."""
    return float(np.sqrt((modulus**2 - 1) / 12)) * 10 ** (-snr / 20)


class ChannelTable(SummedTable, tag="channel"):
    """The workers send at once over a noisy channel that adds; on the virtual clock alone."""

    makes: ClassVar[type[Channel]] = Channel

    #: power of a worker's signal over the power of the noise [dB]
    snr: Annotated[float, Meta(ge=-20, le=100)] = 20.0
    #: together: codewords at once, of which rank 0 decodes the sum; separately: one worker after another;
    #: analog: elements at once, without a code
    send: Literal["together", "separately", "analog"] = "together"
    #: decoder of sums: quasi-group: knows the law of sums; group: takes all integers for equally likely
    code: Literal["quasi-group", "group"] = "quasi-group"
    uses: Annotated[int, Meta(ge=1, le=8)] = 1  #: symbols sent for an element
    span: Annotated[int, Meta(ge=0, le=3)] = 1  #: earlier elements on which these symbols depend

    effective: ClassVar[KeyNeeds] = {
        **SummedTable.effective,
        ("code", "uses", "span"): {"reduce.send": none_of("analog", needed="'together' or 'separately'")},
    }
    requires: ClassVar[KeyNeeds] = {
        **SummedTable.requires,
        "kind": {
            **SummedTable.requires["kind"],
            "update.mode": having("complete", "'all'", "adds up the payloads of all workers", only="all"),
            "wire.dtype": unrounded("rounds by itself"),
            "reduce.bits": Need(
                lambda bits, config: (bits is None) == (config.reduce.send == "analog"),
                "a number of bits, or none with send 'analog'",
                "sends integers, or elements as they are",
            ),
            "reduce.span": Need(
                lambda span, config: (1 << (config.reduce.bits or 1) * (span + 1)) <= MOST_BRANCHES,
                "at most 16 bits in all of an element and those before it",
                "has a decoder of 2^(bits (span + 1)) branches",
            ),
        },
    }

    def make(self, config: Any) -> Channel:
        return self.makes(config)
