"""Base class of schemes; its defaults are codewords of each layer of a mini-batch gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from .. import stragglers
from ..codes import Code
from ..coding import flops, optimizers, proximals
from ..coding.ahead import Lengths, LookAhead
from ..coding.memory import CodewordSelector, MemoryEncoder, PayloadEncoder, StatelessEncoder
from ..coding.policies import Policy
from ..coding.source import BatchGradient, Source
from ..coding.state import Coded, State
from ..config import Config, Table, Tables, kinds
from ..config.defaults import Origins
from ..config.requirements import Needs
from ..decoders import Decoder
from ..fitted import LONGEST_STEP
from ..problems import Problem
from ..transport.codewords import Chunks
from ..transport.layout import Agreement, Codewords, Layout
from ..transport.log import excluded_bytes
from ..transport.messages import Reply
from ..transport.units import Blocks, Unit, cut
from ..util.capabilities import Capable
from . import rate_laws
from .common import builders
from .common.assignments import Assignment
from .placement import Placement

if TYPE_CHECKING:
    from ..trace.reader import TraceReader

# Reasons and alternatives in error messages about `requires`.
NOT_SUMMED = "needs each worker's payload, not their sum"
SENDS_THETA = "sends θ with each task"
SEVERAL_MESSAGES = "answers a task in several messages"
COUNTING_MODE = "a mode that counts payloads, such as 'first'"
SEVERAL_ROUNDS = "has several rounds per update and cannot use payloads of another round"

UNCODED: Tables = {"code": {"family": "uncoded", "blocks": 1, "rotate": False}, "memory": {"kind": "none"}}
"""Tables of schemes without a code."""

EQUAL: Mapping[str, Any] = {"whiten": "auto", "steps": "auto", "centre": "auto"}
"""Keys of ``[code]`` for gradients of equal length in each layer, by centred inputs where there are any."""

EXCHANGE = "/downlink.kind=exchange"
ALLREDUCE = "/reduce.kind=allreduce"
FIRST = "/update.mode=first"
NESTEROV = "/optimizer.momentum=0.9/optimizer.nesterov=true"
TWO_BITS = "/wire.dtype=int2"
COMPRESSED = f"/memory.kind=worker{TWO_BITS}"
WHITEN = "/code.whiten=auto/code.centre=auto"
WHITENED = f"{WHITEN}{NESTEROV}"
"""Parts of `Scheme.entrants`."""

Entrants = Mapping[str, str]

WHITENING = "!code.whiten", "!code.steps", "!code.form", "!code.centre"
"""Entries of `Scheme.unused` of schemes without a code whose gradients may be whitened."""


class TaskSize(NamedTuple):
    """Size of a task, the same in every round.

    Attributes
    ----------
    batches : sequence of float, of length 1 or n
        Number of mini-batches (or full batches of a shard) of a task: of all workers, or of each; may be a
        fraction. A task has the injected delays of that many tasks of one mini-batch.
    messages : int
        Number of messages in which a worker answers a task.
    limits_s : ndarray of float64, shape (n,), optional
        Longest delay of a mini-batch of each worker in s, which then interrupts it.
    """

    batches: Sequence[float] = (1.0,)
    messages: int = 1
    limits_s: np.ndarray | None = None


class Work(NamedTuple):
    """Work of a task in a round of an update.

    Attributes
    ----------
    flops : float or ndarray
        Floating-point operations, for the virtual clock: of all workers, or of each, shape (n,); for a task
        with several messages by message, shape (messages, 1) or (messages, n).
    rows : float, optional
        Training rows that a task uses; default: a mini-batch, or the shard.
    """

    flops: float | np.ndarray
    rows: float | None = None

    @property
    def by_worker(self) -> np.ndarray:
        """Operations of a whole task, of all workers, shape (1,), or of each, shape (n,)."""
        total: np.ndarray = np.atleast_2d(self.flops).sum(axis=0)
        return total

    @property
    def by_message(self) -> np.ndarray:
        """Operations for each message, averaged over the workers."""
        mean: np.ndarray = np.atleast_2d(self.flops).mean(axis=1)
        return mean

    def plus(self, more: float) -> Work:
        """Return the work with further operations."""
        return self._replace(flops=self.flops + more)


@dataclass(frozen=True)
class CodewordRule:
    """Rule that assigns codewords to tasks; the same at rank 0 and the workers.

    Attributes
    ----------
    rows : sequence of int
        Codewords of a task, r, of each unit.
    select : callable, optional
        ``select(worker) -> selectors``: workers choose codewords, by a selector of each unit, or None where
        the unit is uncoded. Default: codewords come with the task.
    separate_codewords, chunks, keyed
        Encoding of the codewords in messages, see `Agreement`.
    """

    rows: Sequence[int]
    select: Callable[[int], list[CodewordSelector | None]] | None = None
    separate_codewords: bool = False
    chunks: Sequence[Chunks] | None = None
    keyed: Callable[[int], Codewords] | None = None

    @property
    def worker_selected(self) -> bool:
        """Whether workers choose codewords."""
        return self.select is not None

    def selectors(self, units: Sequence[Unit], worker: int) -> list[CodewordSelector | None]:
        """Build a worker's selector of each unit; None where codewords come with the task."""
        return [None] * len(units) if self.select is None else self.select(worker)

    def layout(
        self,
        units: Sequence[Unit],
        weights: Sequence[int],
        dtype: np.dtype,
        wires: Sequence[str],
        body_bytes: int | None = None,
        bits: int | None = None,
    ) -> Layout:
        """Build the layout of the messages; parameters as for `Layout`."""
        agreement = Agreement(self.worker_selected, self.separate_codewords, self.chunks, self.keyed)
        return Layout(units, self.rows, weights, dtype, wires, agreement, body_bytes, bits=bits)


class Scheme(kinds.Registered, Capable, group="schemes"):
    """Algorithm of rank 0 and the workers; the defaults are projective derivative codes.

    A scheme is a subclass in a file of its own, registered by a line in `config.kinds`. Rank 0 and the
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
    Options : type
        The keys of ``[scheme] options``.
    tables : dict
        Default tables, for those missing in a configuration.
    presets : dict
        Default keys by table, for those missing in a configuration, by preset name.
    candidates : dict
        Presets from which preset "auto" chooses, as "preset" or "scheme:preset", and the number of updates
        that each needs, see `choice.preset`; empty: there is no preset "auto".
    entrants : dict
        The class's own entries of the portfolio that `pdcode plan` and the benchmarks try: label -> what
        follows the scheme's name in ``pdcode compare --schemes``, as ":preset/table.key=value". Subclasses do
        not inherit them.
    regressions : tuple of str
        Presets for losses whose least is far from 0: the rate of linear models follows from their curvature,
        and falls until the end of a run of a given number of updates.
    unused : tuple of str
        Tables of the configuration without effect; values that differ from `tables` are refused. An entry
        "!table.key" is a key of such a table that has an effect.
    requires : dict
        Requirements on other keys, "table.key" -> `Need` or value; see `config.requirements`.
    covers : dict
        The methods on which each of the following capabilities depends. A class that overrides such a method
        loses the capability, unless it declares it again; see `util.capabilities`.
    gradient_rate : str
        The key of the learning rate that scales the gradients of mini-batches; empty: there is none, and
        steps do not depend on the length of gradients.
    longest_step : float
        Longest good step of a whitened payload that is applied by itself, as a length; presets keep to it.
    has_length : bool
        Whether steps have a length of their own, see `step_lengths`, whatever the optimizer.
    steps_by_update : bool
        Whether an update is a single round, ended by the policy of ``[update]``.
    fused : bool
        Whether the payload may be computed without the full gradient: units are layers, and the source is a
        mini-batch gradient.
    cuts_units : bool
        Whether units end where the ranges of owners do (`Reduction.owners`).
    has_shard : bool
        Whether each worker has one shard of the training rows, which may change.
    common_state : bool
        Whether rank 0's state is made by `state` here, which `[reduce]` and `[downlink]` decide.
    one_batch : bool
        Whether a task sends the gradient of one mini-batch, which may be the same at all workers.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    tables: ClassVar[Tables] = {}
    presets: ClassVar[Mapping[str, Tables]] = {}
    candidates: ClassVar[Mapping[str, float]] = {}
    entrants: ClassVar[Entrants] = {}
    regressions: ClassVar[tuple[str, ...]] = ()
    unused: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[Needs] = {}
    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "steps_by_update": ("policy",),
        "fused": ("units", "source"),
        "cuts_units": ("units",),
        "one_batch": ("source",),
        "has_shard": ("placement",),
        "common_state": ("state",),
    }
    gradient_rate: ClassVar[str] = "optimizer.rate"
    longest_step: ClassVar[float] = LONGEST_STEP
    has_length: ClassVar[bool] = False
    steps_by_update: ClassVar[bool] = True
    fused: ClassVar[bool] = True
    cuts_units: ClassVar[bool] = True
    one_batch: ClassVar[bool] = True
    has_shard: ClassVar[bool] = True
    common_state: ClassVar[bool] = True

    class Options(Table):
        """Keys of ``[scheme] options``: none.

        Comparisons tune a key ``rate`` in place of ``optimizer.rate``. An optional class attribute
        ``candidates`` has the values that plans and tuning try, by key: see `config.fields.Candidates`;
        a key with a dot is one of another table.
        """

    @classmethod
    def settle(cls, config: Config, origins: Origins) -> Config:
        """Return a configuration whose rate, if it is the preset's, follows other keys; note that."""
        return rate_laws.settle(config, origins)

    def __init__(self, config: Config) -> None:
        self.config, self.workers = config, config.workers.count
        self.options: Any = config.scheme.options

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse inconsistent values; requirements on single keys are in `requires`.

        Raises
        ------
        InputError
            Naming key and value.
        """

    @classmethod
    def suits(cls, preset: str, problem: Problem) -> bool:
        """Return whether preset "auto" may choose one of the `candidates` for this model and its batches.

        Parameters
        ----------
        preset : str
        problem : Problem
        """
        return True

    @cached_property
    def placement(self) -> Placement:
        """Placement of the data at the workers."""
        return Placement(self.config, self.workers)

    # Tasks and messages: used by rank 0 and by the workers.

    @property
    def awaits_speeds(self) -> bool:
        """Whether options are missing that depend on the speeds of workers and link."""
        return False

    def with_speeds(self, problem: Problem, rates: np.ndarray, bandwidth: float) -> tuple[Config, str]:
        """Return the configuration with the options that `awaits_speeds`, and a line on them.

        Parameters
        ----------
        problem : Problem
        rates : ndarray of float64, shape (n,)
            Tasks per second of each worker that never waits, with its delays; 0 if it is dead.
        bandwidth : float
            Bytes per second that rank 0 receives.
        """
        raise NotImplementedError

    @property
    def task_size(self) -> TaskSize:
        """Mini-batches and messages of a task."""
        return TaskSize()

    def units(self, problem: Problem) -> Sequence[Unit]:
        """Return the segments of θ whose blocks the codewords combine."""
        return cut(problem.layers, owners) if (owners := self.config.reduction.owners) else problem.layers

    def codewords(self, units: Sequence[Unit]) -> CodewordRule:
        """Return the rule by which tasks get their codewords."""
        config = self.config
        select = partial(builders.make_selectors, config, units) if config.code.worker_selected else None
        return CodewordRule(builders.rows_of(config, units), select, config.code.adapts)

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
        wires = builders.wires_of(self.config, units)
        bits = self.config.reduce.bits
        return [self.codewords(units).layout(units, weights, problem.dtype, wires, body_bytes, bits)]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        """Return the work of a task in round `number`.

        Parameters
        ----------
        problem : Problem
        layouts : sequence of Layout
        number : int
        shard : int
            Average number of training rows of a worker.
        """
        config, layout = self.config, layouts[number]
        if self.fused and not config.reduction.owners:
            return Work(flops.task_flops(config, problem, layout, shard))
        gradient = flops.gradient_flops(config, problem, shard)
        return Work(gradient + flops.coding_flops(config, problem, layout))

    def step_flops(self, problem: Problem, layouts: Sequence[Layout]) -> float:
        """Return the flops of a step of θ, with those that precede it at rank 0, in all rounds of an update.

        Parameters
        ----------
        problem : Problem
        layouts : sequence of Layout
        """
        return flops.step_flops(self.config, problem, layouts[0])

    # Used by rank 0.

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        """Build the assignment of codewords to tasks."""
        return builders.make_assignment(self.config, units, self.workers)

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        """Build a decoder for each unit; without `designs`, for a replica."""
        wires, worker_selected = builders.wires_of(self.config, units), self.codewords(units).worker_selected
        return builders.make_decoders(self.config, units, wires, designs, worker_selected)

    def optimizer(self, problem: Problem, span: float = 1.0) -> optimizers.Optimizer:
        """Build the optimizer of rank 0 and of the replicas.

        Parameters
        ----------
        problem : Problem
        span : float
            Factor from gradients to decoded vectors: 1 for gradients, the learning rate times H for
            displacements by H local steps.
        """
        table = self.config.optimizer
        penalty = proximals.penalty_of(table.proximal, problem)
        return optimizers.create(table, problem.size, problem.dtype, penalty, span, problem.layers)

    def policy(self) -> Policy:
        """Build the rule that decides which payloads rank 0 uses, when it steps, and which workers wait."""
        policy: Policy = self.config.update.make(self.workers)
        return policy

    def state(self, problem: Problem) -> State:
        """Build rank 0's state; unless ``problem.drawn``, for its sizes only, at a θ of zeros."""
        state = coded_state(self, problem, self.assignment(self.units(problem)))
        state.policy = self.policy()
        return self.config.reduction.state(state)

    # Used by the workers.

    def recall(self, trace: TraceReader) -> None:
        """Take from a trace that is replayed what its workers do not compute again, before they are built."""
        return

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        """Build the source of the vector that a worker encodes.

        Parameters
        ----------
        problem : Problem
            The worker's own problem.
        worker : int
        rows : int
            Training rows of all workers together.
        reply : Reply, optional
            Where to write the payload if it is computed without the full gradient.
        """
        batch, whiten = self.config.problem.batch, self.config.code.whitening
        weight = builders.gradient_weight(self.config, problem, rows)
        plan = (
            problem.plan(batch, weight=weight, whiten=whiten)
            if reply is None
            else problem.plan(batch, reply.layout.rows, reply.payload, weight, whiten)
        )
        common = self.config.problem.shards == "common"
        return BatchGradient(plan, problem.batches(self.config.seed, 0 if common else worker), common)

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        """Build a worker's encoder of each round, which writes into the reply of that round.

        Parameters
        ----------
        problem, worker, rows
            As for `source`.
        replies : sequence of Reply
            Reply of each round.
        """
        (reply,) = replies
        memory, units = self.config.memory, reply.layout.units
        rule, fused = self.codewords(units), self.fused and not self.config.reduction.owners
        if memory.kind in ("none", "coordinator") and not rule.worker_selected and fused:
            source = self.source(problem, worker, rows, reply)
            assert isinstance(source, BatchGradient)
            return [StatelessEncoder(source, reply)]
        source, selectors = self.source(problem, worker, rows), rule.selectors(units, worker)
        drops = self.config.reduction.by_members  # stale gradients would make up much of a mean
        own = memory.kind, selectors, memory.keep, self.look_ahead(problem)
        return [MemoryEncoder(source, reply, *own, drops)]

    def look_ahead(self, problem: Problem) -> LookAhead | None:
        """Build the point at which a worker computes its vectors; None: it is θ."""
        table = self.config.optimizer
        share = float(self.config.memory.lookahead * table.rate)
        lengths = [self.step_lengths(layer) for layer in problem.layers]
        common = problem.size, problem.dtype, problem.layers, lengths
        return LookAhead(share, table.factor, *common) if share else None

    def step_lengths(self, layer: Blocks) -> Lengths:
        """Return the lengths of a step of a layer's weights and biases at learning rate 1.

        None stands for the length of the decoded vector, where steps are linear in it.
        """
        lengths: Lengths = self.config.optimizer.step_lengths(layer)
        return lengths


def make_scheme(config: Config) -> Scheme:
    """Build the scheme of a resolved configuration."""
    scheme: type[Scheme] = kinds.find("schemes", config.scheme.name)
    return scheme(config)


def coded_state(
    scheme: Scheme, problem: Problem, assignment: Assignment | None = None, weights: Sequence[int] = ()
) -> Coded:
    """Build rank 0's state without a relay; or, without an assignment, a worker's replica of it."""
    config, units = scheme.config, scheme.units(problem)
    decoders = scheme.decoders(units, None if assignment is None else assignment.designs)
    if not scheme.policy().workers_wait:  # a worker's later payloads of an update replace its first
        for decoder in decoders:
            decoder.copy_payloads()
    theta, optimizer = builders.initial_theta(config, problem), scheme.optimizer(problem)
    state = Coded(theta, units, decoders, optimizer, assignment)
    if config.reduce.adds:
        state.senders = 1  # workers send the sum of their payloads
    longest = None
    if config.reduction.relays:
        longest = state.max_snapshot_bytes + excluded_bytes(scheme.workers)
    weights = weights if assignment is None else assignment.weights
    state.layouts = scheme.layouts(problem, weights, longest)
    return state


def delay_model(config: Config) -> stragglers.DelayModel:
    """Build the model of the delays of the scheme's tasks."""
    model = config.stragglers.make(config.seed, config.workers.count)
    size, model.oversleep_s = make_scheme(config).task_size, config.machine.oversleep_s
    return model.merge(size.batches, size.limits_s)
