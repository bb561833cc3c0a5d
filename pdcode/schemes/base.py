"""What a scheme is; by itself, codewords of each layer of the gradient of a mini-batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from .. import problems
from ..codes import Code
from ..coding import builders, flops, optimizers
from ..coding.assignments import Assignment
from ..coding.memory import CodewordSelector, MemoryEncoder, Respond, StatelessEncoder
from ..coding.policies import make_policy
from ..coding.replica import RelayedState
from ..coding.source import Batch, Source
from ..coding.state import Coded, State
from ..config import kinds
from ..config.tables import Config, Table, Tables
from ..decoders import Decoder
from ..problems import Problem
from ..problems.partition import Unit
from ..transport.layout import Layout
from ..transport.messages import Reply
from ..util.errors import InputError
from ..util.rng import Batches


class Scheme:
    """What rank 0 and the workers do; every method's default is that of projective derivative codes.

    A scheme overrides what is different, in a file of its own, and has a line in `config.kinds`. Rank 0 and
    the workers make their scheme from the same configuration, so that both know units and layouts.

    Parameters
    ----------
    config : Config
        Resolved.

    Attributes
    ----------
    name : str
        What ``[scheme] name`` says.
    summary : str
        What the scheme does, in a line.
    tables : dict
        Defaults of the tables that a configuration does not give.
    presets : dict
        Named defaults of keys that a configuration does not give, by table.
    Options : type
        The keys of ``[scheme] options``.
    unused : tuple of str
        Tables of the configuration that have no effect, which may only be as `tables` has them.
    chosen : bool
        Whether workers choose their codewords.
    single_round : bool
        Whether an update is one round, which ends when the policy of ``[update]`` says so.
    fused : bool
        Whether codewords may be applied before the gradient is formed: units must be layers, and the source
        the gradient of a mini-batch.
    """

    group: ClassVar[str] = "schemes"
    name: ClassVar[str]
    summary: ClassVar[str]
    tables: ClassVar[Tables] = {}
    presets: ClassVar[Mapping[str, Tables]] = {}
    unused: ClassVar[tuple[str, ...]] = ()
    single_round: ClassVar[bool] = True
    fused: ClassVar[bool] = True

    class Options(Table):
        """None."""

    @classmethod
    def name_of(cls) -> str:
        """Name of the scheme, for `config.kinds`."""
        return cls.name

    def __init__(self, config: Config) -> None:
        self.config, self.workers = config, config.workers.count
        self.options: Any = config.scheme.options

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse combinations of keys that cannot work.

        Raises
        ------
        InputError
            Naming key and value.
        """
        tables, standard = msgspec.to_builtins(config), msgspec.to_builtins(Config())
        for table in cls.unused:
            for key, value in tables[table].items():
                if value != cls.tables.get(table, {}).get(key, standard[table][key]):
                    raise InputError(f"{table}.{key}: {value!r} has no effect with scheme '{cls.name}'")

    # Data: what a worker is sent before its first task, and what it makes of that.

    def share(self, data: problems.DataSource, worker: int) -> dict[str, np.ndarray]:
        """Arrays that rank 0 sends to a worker."""
        return data.shard(worker, self.workers)

    def learn(self, arrays: dict[str, np.ndarray], worker: int) -> Problem:
        """The worker's problem, from what `share` gave."""
        dataset = problems.receive(self.config.problem, arrays, worker, self.workers)
        return Problem.from_dataset(self.config.problem, dataset, self.config.code.blocks)

    # Messages: the same at rank 0 and at the workers.

    @property
    def chosen(self) -> bool:
        return self.config.code.chosen

    @property
    def relayed(self) -> bool:
        """Whether workers have replicas, which follow the codewords that arrive at rank 0."""
        return self.config.downlink.kind == "codewords"

    def units(self, problem: Problem) -> Sequence[Unit]:
        """The parts of θ that codewords combine blocks of."""
        return problem.layers

    def rows(self, units: Sequence[Unit]) -> list[int]:
        """Codewords per task, r, of each unit."""
        return builders.rows_of(self.config, units)

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        """The messages of each round of an update.

        Parameters
        ----------
        problem : Problem
        weights : sequence of int
            Weight of each unit's codewords.
        body_bytes : int, optional
            Longest body of a task; θ's length if not given.
        """
        config, units = self.config, self.units(problem)
        wire, apart = config.wire.dtype or "", config.code.adapts
        return [Layout(units, self.rows(units), weights, problem.dtype, wire, self.chosen, body_bytes, apart)]

    # Rank 0's side.

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        """Which codewords a task gets."""
        return builders.make_assignment(self.config, units, self.workers)

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        """A decoder for each unit; without `designs` those of a replica."""
        return builders.make_decoders(self.config, units, designs, self.chosen)

    def state(self, problem: Problem) -> State:
        """Rank 0's state."""
        coded = self.coded(problem, self.assignment(self.units(problem)))
        coded.policy = make_policy(self.config.update, self.workers)
        return RelayedState(coded, self.workers, self.config.downlink.check) if self.relayed else coded

    def coded(
        self, problem: Problem, assignment: Assignment | None = None, weights: Sequence[int] = ()
    ) -> Coded:
        """Rank 0's state without a relay, or a worker's replica of it, which knows no more than `weights`."""
        units = self.units(problem)
        made = self.decoders(units, None if assignment is None else assignment.designs)
        optimizer = optimizers.create(self.config.optimizer, problem.size, problem.dtype)
        coded = Coded(problem.initial(self.config.seed), units, made, optimizer, assignment)
        weights = weights if assignment is None else assignment.weights
        coded.layouts = self.layouts(problem, weights, coded.bytes if self.relayed else None)
        return coded

    # A worker's side.

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        """What a worker codes.

        Parameters
        ----------
        problem : Problem
            The worker's.
        worker : int
        rows : int
            Training rows of all workers together.
        reply : Reply, optional
            Where combinations of blocks are to be left, if the gradient itself is not formed.
        """
        batch, share = self.config.problem.batch, self.share_of(problem, rows)
        plan = (
            problem.plan(batch, weight=share)
            if reply is None
            else problem.plan(batch, reply.layout.rows, reply.payload, share)
        )
        return Batch(plan, Batches(self.config.seed, worker, problem.rows, batch))

    def share_of(self, problem: Problem, rows: int) -> float:
        """Weight of a worker's gradient, so that the mean over workers is that over rows."""
        return self.workers * problem.rows / rows

    def selectors(self, units: Sequence[Unit], worker: int) -> list[CodewordSelector | None]:
        """What picks the codewords of each unit at a worker; None where they are given."""
        if not self.chosen:
            return [None] * len(units)
        return builders.make_selectors(self.config, units, worker)

    def responds(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[Respond]:
        """A worker's side of each round."""
        (reply,) = replies
        kind, units = self.config.memory.kind, reply.layout.units
        if kind in ("none", "coordinator") and not self.chosen and self.fused:
            source = self.source(problem, worker, rows, reply)
            assert isinstance(source, Batch)
            return [StatelessEncoder(source, reply)]
        source = self.source(problem, worker, rows)
        return [MemoryEncoder(source, reply, kind, self.selectors(units, worker))]

    def flops(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None) -> float:
        """Floating-point operations of a task in round `number`, for the virtual clock.

        Parameters
        ----------
        problem : Problem
        layouts : sequence of Layout
        number : int
        shard : int or None
            Training rows of a worker, on average.
        """
        return flops.task_flops(self.config, problem, layouts[number], shard)


def make_scheme(config: Config) -> Scheme:
    """The scheme of a resolved configuration."""
    scheme: type[Scheme] = kinds.find("schemes", config.scheme.name)
    return scheme(config)
