"""Base class of schemes; its defaults are codewords of each layer of a mini-batch gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from .. import problems, stragglers
from ..codes import Code
from ..coding import builders, flops, optimizers, proximals
from ..coding.assignments import Assignment
from ..coding.memory import CodewordSelector, MemoryEncoder, PayloadEncoder, StatelessEncoder
from ..coding.policies import Policy
from ..coding.relay import RelayedState
from ..coding.source import Batch, Source
from ..coding.state import Coded, State
from ..config import Config, Table, Tables, kinds
from ..decoders import Decoder
from ..problems import Problem
from ..problems.partition import Unit
from ..transport.layout import Layout
from ..transport.log import notice_bytes
from ..transport.messages import Reply
from ..util.errors import InputError
from ..util.rng import BatchSampler


class Scheme:
    """Algorithm of rank 0 and the workers; every default is that of projective derivative codes.

    A scheme overrides what differs, in a file of its own, and has a line in `config.kinds`. Rank 0 and the
    workers build it from the same configuration, hence with the same units and message layouts.

    Parameters
    ----------
    config : Config
        Resolved configuration.

    Attributes
    ----------
    name : str
        Value of ``[scheme] name``.
    summary : str
        One-line description.
    tables : dict
        Default tables, for those missing in a configuration.
    presets : dict
        Default keys by table, for those missing in a configuration, by preset name.
    Options : type
        The keys of ``[scheme] options``.
    unused : tuple of str
        Tables of the configuration without effect; values other than those of `tables` are refused.
    used : tuple of str
        Keys of those tables that have an effect, as "table.key".
    chosen : bool
        Whether codewords are worker-selected.
    single_round : bool
        Whether an update is a single round, ended by the policy of ``[update]``.
    tuned : str
        Key of the learning rate that matters most, for comparisons that tune it.
    summable : bool
        Whether rank 0 needs only the sum of a round's payloads, if these have no codewords.
    whitens : bool
        Whether the vector to send is a mini-batch gradient, which ``code.whiten`` can change.
    candidates : dict of str to sequence
        Values of ``[scheme] options`` that plans try, by key.
    fused : bool
        Whether the payload may be computed without forming the gradient: units must be layers, and the
        source a mini-batch gradient.
    """

    group: ClassVar[str] = "schemes"
    name: ClassVar[str]
    summary: ClassVar[str]
    tables: ClassVar[Tables] = {}
    presets: ClassVar[Mapping[str, Tables]] = {}
    unused: ClassVar[tuple[str, ...]] = ()
    used: ClassVar[tuple[str, ...]] = ()
    single_round: ClassVar[bool] = True
    summable: ClassVar[bool] = True
    whitens: ClassVar[bool] = True
    fused: ClassVar[bool] = True
    tuned: ClassVar[str] = "optimizer.rate"
    candidates: ClassVar[Mapping[str, Sequence[Any]]] = {}

    class Options(Table):
        """Keys of ``[scheme] options``: none."""

    def __init_subclass__(cls) -> None:
        if "summary" in vars(cls) and not cls.name_of():
            raise TypeError(f"scheme {cls.__name__} has a summary, but no name")

    @classmethod
    def name_of(cls) -> str:
        """Return the scheme's name, for `config.kinds`; empty for a base class."""
        return getattr(cls, "name", "")

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
                usual = cls.tables.get(table, {}).get(key, standard[table].get(key))
                if value != usual and f"{table}.{key}" not in cls.used:
                    raise InputError(f"{table}.{key}: {value!r} has no effect with scheme '{cls.name}'")
        if config.code.whiten != "none" and not cls.whitens:
            raise InputError(
                f"code.whiten: '{config.code.whiten}': scheme '{cls.name}' sends displacements, no gradients"
            )

    # Delays, which are those of a worker's time: however a scheme divides the work, it meets as many.

    @property
    def batches(self) -> np.ndarray:
        """Number of mini-batches of a task, of all workers, shape (1,), or of each, shape (n,).

        Its delay is the sum of as many.
        """
        return np.ones(1, np.int64)

    @property
    def portion(self) -> float:
        """Share of a mini-batch, or of a shard's full batch, that a task takes, and of its delay."""
        return 1.0

    @property
    def parts(self) -> int:
        """Number of messages in which a worker answers a task."""
        return 1

    def samples(self, shard: int) -> int:
        """Return the training rows that a worker's tasks of an update use, given those of its shard."""
        return round(float(self.batches.mean()) * (self.config.problem.batch or shard))

    def delays(self) -> stragglers.DelayModel:
        """Build the model of the delays of this scheme's tasks."""
        return self.config.stragglers.make(self.config.seed, self.workers).merge(self.batches, self.portion)

    def shares(self, problem: Problem, layouts: Sequence[Layout], shard: int | None) -> list[list[float]]:
        """Return the share of a delay that each part of a task has, for each round: that of its flops.

        Parameters are those of `flops`.
        """
        numbers = range(len(layouts))
        spent = [float(np.mean(self.flops(problem, layouts, number, shard))) for number in numbers]
        return [
            [each / sum(spent) * portion for portion in self.portions(problem, layouts, number, shard)]
            for number, each in enumerate(spent)
        ]

    # Data, sent to a worker before its first task.

    def examine(self, data: problems.DataSource) -> None:
        """Note what rank 0's side needs to know of the data, before `state`; by default nothing."""
        return

    def dealt(self, data: problems.DataSource) -> int:
        """Return the number of training rows of all shards together, the argument `rows` of `source`.

        Raises
        ------
        InputError
            If there are fewer rows than shards.
        """
        return data.total_rows(self.workers)

    def share(self, data: problems.DataSource, worker: int) -> dict[str, np.ndarray]:
        """Return the data that rank 0 sends to a worker, as arrays by name."""
        return data.shard(worker, self.workers)

    def learn(self, arrays: dict[str, np.ndarray], worker: int) -> Problem:
        """Build the worker's problem from the arrays of `share`."""
        dataset = problems.receive(self.config.problem, arrays, worker, self.workers)
        return Problem.from_dataset(self.config.problem, dataset, self.config.code.blocks)

    def conceal(self) -> None:
        """Draw by the operating system what workers must not know: they know the seed. By default nothing is.

        Called before `share` where workers are other processes; what rank 0 computes must not depend on it.
        """
        return

    def remarks(self, state: State) -> list[str]:
        """Describe, a line each, what is made of the options where it is not evident."""
        return []

    # Messages: the same at rank 0 and at the workers.

    @property
    def chosen(self) -> bool:
        return self.config.code.chosen

    @property
    def relayed(self) -> bool:
        """Whether received codewords are relayed to replicas of the state at the workers."""
        return self.config.downlink.relays

    def units(self, problem: Problem) -> Sequence[Unit]:
        """Return the segments of θ whose blocks the codewords combine."""
        return problem.layers

    def rows(self, units: Sequence[Unit]) -> list[int]:
        """Return the codewords per task, r, of each unit."""
        return builders.rows_of(self.config, units)

    def wires(self, units: Sequence[Unit]) -> list[str]:
        """Return the wire format of each unit's payload."""
        return builders.wires_of(self.config, units)

    def codeword_options(self, units: Sequence[Unit]) -> dict[str, Any]:
        """Return how codewords travel: keyword arguments of `Layout`."""
        return {"chosen": self.chosen, "apart": self.config.code.adapts}

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        """Return the message layout of each round of an update.

        Parameters
        ----------
        problem : Problem
        weights : sequence of int
            Codeword weight w of each unit.
        body_bytes : int, optional
            Maximum body length of a task; default: the bytes of θ.
        """
        units = self.units(problem)
        rows, wires, how = self.rows(units), self.wires(units), self.codeword_options(units)
        return [Layout(units, rows, weights, problem.dtype, wires, body_bytes=body_bytes, **how)]

    # Rank 0's side.

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        """Build the assignment of codewords to tasks."""
        return builders.make_assignment(self.config, units, self.workers)

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        """Build a decoder for each unit; without `designs`, for a replica."""
        return builders.make_decoders(self.config, units, self.wires(units), designs, self.chosen)

    def optimizer(self, problem: Problem) -> optimizers.Optimizer:
        """Build rank 0's optimizer; replicas have the same."""
        table = self.config.optimizer
        penalty = proximals.penalty_of(table.proximal, problem.network)
        return optimizers.create(table, problem.size, problem.dtype, penalty, self.span)

    @property
    def span(self) -> float:
        """Learning rate of the gradient steps of which decoded vectors are the sums: 1 for gradients."""
        return 1.0

    def initial(self, problem: Problem) -> np.ndarray:
        """Draw the θ from which the descent starts, and move it into the penalty's domain."""
        theta = problem.initial(self.config.seed)
        penalty = proximals.penalty_of(self.config.optimizer.proximal, problem.network)
        if penalty is not None:
            penalty.apply(theta, 0.0)
        return theta

    def policy(self) -> Policy:
        """Build the rule of which payloads rank 0 uses, when it steps, and who waits for that."""
        policy: Policy = self.config.update.make(self.workers)
        return policy

    def state(self, problem: Problem) -> State:
        """Build rank 0's state."""
        coded = self.coded(problem, self.assignment(self.units(problem)))
        coded.policy = self.policy()
        if not self.relayed:
            return coded
        down = self.config.downlink
        return RelayedState(coded, self.workers, down.check, down.exchanges)

    def coded(
        self, problem: Problem, assignment: Assignment | None = None, weights: Sequence[int] = ()
    ) -> Coded:
        """Build rank 0's state without a relay, or (from `weights` alone) a worker's replica of it."""
        units = self.units(problem)
        decoders = self.decoders(units, None if assignment is None else assignment.designs)
        theta, optimizer = self.initial(problem), self.optimizer(problem)
        coded = Coded(theta, units, decoders, optimizer, assignment)
        if self.config.reduce.summed:
            coded.senders = 1  # all of them add up to one
        weights = weights if assignment is None else assignment.weights
        longest = coded.bytes + notice_bytes(self.workers) if self.config.downlink.exchanges else coded.bytes
        coded.layouts = self.layouts(problem, weights, longest if self.relayed else None)
        return coded

    # A worker's side.

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        """Build the source of the vector that a worker encodes.

        Parameters
        ----------
        problem : Problem
            The worker's.
        worker : int
        rows : int
            Training rows of all workers together.
        reply : Reply, optional
            Receives the payload if the gradient is not to be formed.
        """
        batch, share, whiten = (
            self.config.problem.batch,
            self.share_of(problem, rows),
            self.config.code.whiten,
        )
        plan = (
            problem.plan(batch, weight=share, whiten=whiten)
            if reply is None
            else problem.plan(batch, reply.layout.rows, reply.payload, share, whiten)
        )
        return Batch(plan, BatchSampler(self.config.seed, worker, problem.rows, batch))

    def share_of(self, problem: Problem, rows: int) -> float:
        """Return the weight of a worker's gradient that makes the mean over workers the mean over rows."""
        return self.workers * problem.rows / rows

    def selectors(self, units: Sequence[Unit], worker: int) -> list[CodewordSelector | None]:
        """Build a worker's codeword selector for each unit; None where codewords are given."""
        if not self.chosen:
            return [None] * len(units)
        return builders.make_selectors(self.config, units, worker)

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        """Build a worker's side of each round."""
        (reply,) = replies
        kind, units = self.config.memory.kind, reply.layout.units
        if kind in ("none", "coordinator") and not self.chosen and self.fused:
            source = self.source(problem, worker, rows, reply)
            assert isinstance(source, Batch)
            return [StatelessEncoder(source, reply)]
        source = self.source(problem, worker, rows)
        keep = self.config.memory.keep
        ahead = self.config.memory.lookahead * self.config.optimizer.rate
        return [MemoryEncoder(source, reply, kind, self.selectors(units, worker), keep, ahead)]

    def flops(
        self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None
    ) -> float | np.ndarray:
        """Return the floating-point operations of a task in round `number`, for the virtual clock.

        Of all workers, a number or shape (1,), or of each, shape (n,), if their tasks differ.

        Parameters
        ----------
        problem : Problem
        layouts : sequence of Layout
        number : int
        shard : int or None
            Average number of training rows of a worker.
        """
        config, layout = self.config, layouts[number]
        if self.fused:
            return flops.task_flops(config, problem, layout, shard)
        return flops.gradient_flops(config, problem, shard) + flops.coding_flops(config, problem, layout)

    def portions(
        self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None
    ) -> list[float]:
        """Return the share of each part of the reply in a task's flops; parameters as for `flops`."""
        return [1.0]


def make_scheme(config: Config) -> Scheme:
    """Build the scheme of a resolved configuration."""
    scheme: type[Scheme] = kinds.find("schemes", config.scheme.name)
    return scheme(config)
