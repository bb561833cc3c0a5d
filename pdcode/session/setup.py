"""Setup of rank 0 and the workers from a configuration."""

import os
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import Any, Protocol

import msgspec
import numpy as np

from .. import faults, problems, stragglers
from ..automatic import keys as auto_keys
from ..automatic import link_sizing
from ..coding.flops import average_flops, payload_flops
from ..coding.policies import check_end
from ..coding.state import State
from ..config import Config, requirements
from ..config.defaults import FILLED
from ..config.requirements import Needs, lacking, one_of, unrounded
from ..faults.audit import AuditedEncoder
from ..faults.encoder import faulty_encoders
from ..problems import DataSource, NetworkProblem, Problem
from ..schemes import Scheme, Work, delay_model, make_scheme
from ..schemes.base import SENDS_THETA, SEVERAL_MESSAGES, SEVERAL_ROUNDS
from ..schemes.common.assignments import ByUpdate
from ..schemes.rate_laws import longest_rate
from ..training.worker import Worker
from ..transport.layout import MAX_ROUNDS, Layout, buffer, ensure_sendable
from ..transport.messages import Reply
from ..transport.speeds import Speeds
from ..util.errors import InputError, prefix_errors
from ..util.formats import counted, listing
from ..util.memory import ensure_fits
from ..util.touches import flops_per_touch

SELECTED = "has workers choose codewords, so that payloads do not add up"
MAX_WORKERS = 2**16  # the message header has 16 bits for their number
TOO_LONG = 1.5  # multiple of `longest_rate` from which on a learning rate is too long
CODED = (
    "codes blocks, and its workers have codewords of their own, so that payloads do not add up; "
    "code.blocks = 1 sends layers uncoded, and scheme 'lwpd' has all workers send the same blocks"
)


class Choice(Protocol):
    """Choice of the preset, see `choice.preset.Choice`."""

    def with_speeds(self, speeds: Speeds) -> "Components":
        """Return the components with which to begin at measured speeds."""

    def review(self, components: "Components", before: object) -> Any:
        """Return the review of a run, see `session.run.Review`; None if its preset stays."""


@dataclass
class Components:
    """Everything rank 0 builds before MPI_Init: configuration errors surface before any process starts."""

    source: DataSource | None  # None once the workers have their data, over MPI
    rows: int  # training rows
    total_rows: int  # training rows of all shards together, see `schemes.Placement`
    problem: Problem
    scheme: Scheme
    state: State
    requested: Config  # the configuration before keys were resolved by speeds
    notes: list[str] = field(default_factory=list)  # on the values of keys that are "auto"
    by_data: int = 0  # number of the notes on keys that the data determine, the first ones
    simulated: bool = False  # whether the state does the workers' part of sums, too
    choice: "Choice | None" = None  # from which they are, if the user's preset is "auto"

    @property
    def by_speeds(self) -> bool:
        """Whether measured speeds determine keys."""
        requested = self.requested
        sized = requested.code.rows_per_task == "auto"
        return self.choice is not None or sized or make_scheme(requested).awaits_speeds

    @property
    def rebuild(self) -> Callable[[Speeds], "Components"]:
        """Function that builds the components for measured speeds, also once the workers have the data."""
        notes = self.notes[: self.by_data]
        return partial(assemble, self.requested, self.problem, self.rows, self.total_rows, notes)

    def with_speeds(self, speeds: Speeds) -> "Components":
        """Return the components for measured speeds: with a choice, of the preset to begin with."""
        return self.rebuild(speeds) if self.choice is None else self.choice.with_speeds(speeds)

    def review(self, before: object = None) -> Any:
        """Return the review of the preset during a run, see `Choice.review`."""
        return None if self.choice is None else self.choice.review(self, before)

    @property
    def config(self) -> Config:
        """The configuration, with values for keys that the user left "auto"."""
        return self.scheme.config

    @property
    def layouts(self) -> Sequence[Layout]:
        """Message layout of each round of an update."""
        return self.state.layouts

    @property
    def replies(self) -> int:
        """Number of replies of a worker per update."""
        return sum(layout.messages for layout in self.layouts)

    @property
    def layout(self) -> Layout:
        """Message layout of the first round."""
        return self.state.layouts[0]

    @property
    def reply_bytes(self) -> list[int]:
        """Bytes of a worker's message to rank 0 in each round."""
        return self.config.reduction.reply_bytes(self.layouts)

    @property
    def exchanged(self) -> list[int] | None:
        """Bytes that a worker sends, and receives, in each round; None unless workers add up payloads."""
        reduction = self.config.reduction
        return list(map(reduction.exchanged_bytes, self.layouts)) if reduction.workers_step else None

    def flops(self, number: int = 0) -> float:
        """Return the flops of the largest task in round `number`, on the average number of rows."""
        return float(np.max(self.flops_by_worker(number)))

    def flops_by_worker(self, number: int = 0) -> np.ndarray:
        """Return the flops of a task in round `number`, shape (1,), or of each worker's, shape (n,)."""
        return self._work(number).by_worker

    @property
    def step_flops(self) -> float:
        """Flops of a step of θ, see `Scheme.step_flops`, and of its average."""
        step = self.scheme.step_flops(self.problem, self.layouts)
        return step + average_flops(self.scheme.config, self.problem)

    @property
    def arrival_flops(self) -> float:
        """Mean flops by which rank 0 reads, adds up and audits a payload; 0 where workers add them up."""
        if self.config.reduce.summed:
            return 0.0
        audits = self.config.faults.audit * self.flops()
        return audits + fmean(payload_flops(self.problem, layout) for layout in self.layouts)

    @property
    def coordinator_flops(self) -> dict[str, float]:
        """Flops of rank 0 that the virtual clock charges: attributes of a trace."""
        return {name: getattr(self, name) for name in ("step_flops", "arrival_flops", "dispatch_flops")}

    @property
    def dispatch_flops(self) -> float:
        """Flops by which rank 0 copies θ, or what updates it, into a task, on average over rounds."""
        if self.config.reduce.summed:  # workers have it
            return 0.0
        workers, elements = self.config.workers.count, 1 / self.problem.dtype.itemsize
        copied = fmean(sum(self.state.body_bytes(workers, each)) for each in range(len(self.layouts)))
        return 2.0 * flops_per_touch(self.problem.size) * elements * copied

    @property
    def task_rows(self) -> int:
        """Training rows that a worker's tasks of an update use."""
        rows = self._work(0).rows
        return round(self.config.problem.batch or self.shard if rows is None else rows)

    def _work(self, number: int) -> Work:
        return self.scheme.work(self.problem, self.layouts, number, self.shard)

    @property
    def shard(self) -> int:
        """Average number of training rows of a worker."""
        return max(1, self.total_rows // self.scheme.workers)

    @property
    def delay_fractions(self) -> list[list[float]]:
        """Fraction of a worker's delay in each part of a task, for each round of an update."""
        spent = [self._work(number).by_message for number in range(len(self.layouts))]
        total = sum(float(part.sum()) for part in spent)
        return [(part / total).tolist() for part in spent]

    def simulate(self) -> None:
        """Have the state also do the workers' part of the sums, for workers in this process."""
        if not self.simulated:
            self.state, self.simulated = self.config.reduction.simulated(self.state), True

    def remarks(self) -> list[str]:
        """Describe non-obvious treatment of data, formats and delays, one line each."""
        config = self.scheme.config
        lines = self.problem.remarks(self.rows)
        if keys := self._kept_from_auto:
            are, they = ("are", "they are") if keys[1:] else ("is", "it is")
            lines.append(
                f"{listing(keys)} {are} given, so no preset is chosen: with scheme.preset 'auto' {they} "
                "kept, and the rest is chosen"
            )
        if (batch := config.problem.batch) > self.rows:
            lines.append(
                f"problem.batch {batch} is more than the {counted(self.rows, 'training row')}: "
                "a mini-batch has rows several times; 0 takes all rows of a worker, each once"
            )
        biased = [wire.name for wire in config.wire.kinds() if not wire.unbiased]
        # Elements of whitened gradients differ less in magnitude: what rounding loses of them does no harm.
        if biased and not config.memory.has_residual and config.code.whiten == "none":
            lines.append(f"wire.dtype '{biased[0]}' is biased: without a memory errors do not average out")
        if config.update.asynchronous and config.optimizer.momentum and config.memory.kind == "worker":
            lines.append(
                f"optimizer.momentum {config.optimizer.momentum:g} slows a descent down in update.mode "
                f"'{config.update.mode}': the workers' residuals already act as a momentum"
            )
        if float(config.optimizer.rate) > TOO_LONG * (rate := longest_rate(config)):
            lines.append(
                f"optimizer.rate {config.optimizer.rate:g} is too long for whitened steps of so few workers: "
                f"try {rate:g}"
            )
        wanted = getattr(config.update, "fraction", 0.0) if config.update.by_fraction else 0.0
        if wanted > (most := self.most_captured) + 1e-9:
            lines.append(
                f"update.fraction {wanted:g} cannot be reached: tasks of {self.scheme.workers} workers "
                f"capture {most:.2g} of a gradient at most, and each step uses that much; give more workers, "
                "or a larger code.rows_per_task"
            )
        return [*lines, *self.notes, *self.state.remarks(), *shared_delays(config)]

    @property
    def _kept_from_auto(self) -> list[str]:
        """Keys without which a job would have preset "auto"; none if it has a code of its own."""
        asked, scheme = self.requested, self.scheme
        if not scheme.candidates or asked.scheme.preset is not None:
            return []
        usual = Config.of({**scheme.tables, "scheme": {"name": scheme.name}})
        changed = [
            (name, key)
            for name in FILLED
            for key, value in msgspec.to_builtins(getattr(asked, name)).items()
            if value != msgspec.to_builtins(getattr(usual, name)).get(key, value)
        ]
        own = {(name, key) for name, table in scheme.tables.items() for key in table}
        return [] if own & {*changed} else [f"{name}.{key}" for name, key in changed]

    @property
    def most_captured(self) -> float:
        """Upper bound on the fraction of a gradient that one task of each worker captures."""
        layout, workers = self.layout, self.scheme.workers
        shares = [
            unit.length * min(1.0, workers * rows / unit.count)
            for unit, rows in zip(layout.units, layout.rows, strict=True)
        ]
        return sum(shares) / sum(unit.length for unit in layout.units)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts sent to every worker: weights, number of rows, delay fractions, resolved tables."""
        tables = {name: msgspec.to_builtins(getattr(self.config, name)) for name in auto_keys.TABLES}
        sizes = {"rows": self.total_rows, "delay_fractions": self.delay_fractions}
        return {"weights": list(self.layout.weights), **sizes, "resolved": tables}


def shared_delays(config: Config) -> list[str]:
    """Describe, in a line, the use of recorded delays of another number of workers."""
    workers = config.workers.count
    recorded = getattr(config.stragglers.make(config.seed, workers), "recorded", workers)
    if recorded == workers:
        return []
    taken = f"worker i of {workers} takes the delays of recorded worker i mod {recorded}"
    return [f"{config.stragglers.reads} has delays of {recorded} workers: {taken}"]


def prepare(
    config: Config, path: str = "", source: DataSource | None = None, check: bool = True, ends: bool = True
) -> Components:
    """Load the data, unless given, and build rank 0's components.

    `check` refuses what a run may not have, and with `ends` stragglers that prevent it from ending; a replay
    needs no such check. Messages begin with `path`, the configuration's file.
    """
    workers = config.workers.count
    with chdir(os.getcwd()), prefix_errors(path):  # a user's function may change the folder
        if not config.stop.ends:
            raise InputError("stop: nothing ends the run; give updates, seconds, loss or accuracy")
        ensure_fits("workers.count", f"{workers} workers", 1000 * workers)  # about rank 0's bytes of each
        if check and ends:
            check_end(config, stragglers.dead_workers(config.stragglers, workers))
        source = source or problems.load_source(config.problem)
        config.shuffle.check_rows(config, source)
        problem = Problem.from_dataset(config.problem, source.dataset, config.code.blocks)
        least = config.stop.accuracy if check and problem.model.score == "accuracy" else None
        if least is not None and least <= 0:
            raise InputError(f"stop.accuracy: {least:g}: expected a number above 0, as any model reaches it")
        total_rows = make_scheme(config).placement.total_rows(source)
        check_sizes(config, problem, source, total_rows)
        examined = problems.check_loss(problem, config.seed) if check else []
        config, notes = auto_keys.resolve_auto(config, source)
        problem.table = config.problem
        if total_rows > source.rows and config.problem.shards == "auto":
            examined.append(
                f"{counted(workers, 'worker')} for {counted(source.rows, 'training row')}: each has all rows "
                "(problem.shards 'replicated'); a run over MPI refuses that unless the key is given"
            )
        components = assemble(config, problem, source.rows, total_rows, [*examined, *notes], source=source)
        if check:
            stragglers.check_law(delay_model(config))
        if config.faults.audit and check:
            check_audits(components)
        if config.faults and check:
            faults.check(config, sum(layout.messages for layout in components.layouts))
        problem.ensure_fits("problem.batch", components.task_rows)
    return components


def check_audits(components: Components) -> None:
    """Refuse audits of tasks that rank 0 cannot recompute."""
    config, layout = components.config, components.layout
    if components.replies > 1 or not components.scheme.common_state:
        what = "several messages an update" if components.replies > 1 else "tasks with more than θ"
        where = f"faults.audit: {config.faults.audit:g}: scheme '{config.scheme.name}'"
        raise InputError(f"{where} has {what}, which rank 0 does not recompute")
    worker_builder(config, components, shares=True)(0, [Reply(layout, buffer(layout.buffer_bytes)[0])])


def check_count(config: Config) -> None:
    """Refuse more workers than the message header can number."""
    if config.workers.count > MAX_WORKERS:
        raise InputError(
            f"workers.count: {config.workers.count} is more than the {MAX_WORKERS} workers that messages can "
            "name; without numerics (simulate --timing-only), policies that count payloads can have more"
        )


def assemble(
    config: Config,
    problem: Problem,
    rows: int,
    total_rows: int,
    notes: Sequence[str],
    speeds: Speeds | None = None,
    source: DataSource | None = None,
) -> Components:
    """Build the components of a configuration whose keys are resolved by the data, given measured speeds."""
    requested, by_data, notes = config, len(notes), list(notes)
    if config.code.rows_per_task == "auto":
        config, line = link_sizing.resolve_rows(config, problem, total_rows, speeds)
        notes.append(line)
    scheme = make_scheme(config)
    if scheme.awaits_speeds:
        config, line = link_sizing.resolve_options(scheme, problem, total_rows, speeds)
        notes.append(line)
        scheme = make_scheme(config)
    if source is not None:
        scheme.placement.inspect_data(source)
    state = scheme.state(problem)
    ensure_structure(scheme, state)
    ensure_messages_fit(problem, state.layouts)
    return Components(source, rows, total_rows, problem, scheme, state, requested, notes, by_data)


def check_sizes(config: Config, problem: Problem, source: DataSource, total_rows: int) -> None:
    """Refuse what is too large for memory or MPI, before θ is drawn and gradients are computed.

    Keys that are "auto" have values with which nothing is larger than with those that they get.
    """
    config = auto_keys.least(config)
    if config.code.rows_per_task == "auto":
        config = link_sizing.candidates(config)[-1]
    scheme = make_scheme(config)
    scheme.placement.inspect_data(source)
    state = scheme.state(problem.undrawn)
    ensure_messages_fit(problem, state.layouts)
    if not isinstance(problem, NetworkProblem):
        problem.ensure_fits("problem.evaluate", problem.rows)
    else:  # other models count bytes and operations in a pass
        rows = problem.model.rows_at_once(problem.rows, config.problem.batch, problem.dataset.train)
        problem.ensure_fits("problem.evaluate", rows)
        components = Components(None, source.rows, total_rows, problem, scheme, state, config)
        problem.ensure_fits("problem.batch", components.task_rows)


def ensure_messages_fit(problem: Problem, layouts: Sequence[Layout]) -> None:
    """Refuse messages that are too long for MPI."""
    for layout in layouts:
        ensure_sendable(f"problem.{problem.table.sized_by}", layout.task_bytes, layout.reply_bytes)


def ensure_structure(scheme: Scheme, state: State) -> None:
    """Refuse tables that the messages, state and optimizer of a scheme do not allow."""
    name, layouts, owners = scheme.config.scheme.name, state.layouts, scheme.config.reduction.owners
    if len(layouts) > 1 and scheme.steps_by_update:
        raise InputError(
            f"scheme.name: an update of '{name}' has several rounds, so its class must have "
            "steps_by_update = False"
        )
    if len(layouts) > MAX_ROUNDS:
        raise InputError(f"scheme.name: '{name}' has more than {MAX_ROUNDS} rounds per update")
    structures: list[tuple[bool, Needs]] = [
        (
            not scheme.common_state,
            {"downlink.kind": one_of("full", why=SENDS_THETA), **scheme.config.reduction.foreign_state},
        ),
        (not state.optimizer.penalises, {"optimizer.proximal": one_of(None, why="has steps of its own")}),
        (len(layouts) > 1, {"update.late": one_of("waste", why=SEVERAL_ROUNDS)}),
        (
            any(layout.messages > 1 for layout in layouts),
            {
                "reduce.kind": one_of("star", why=SEVERAL_MESSAGES),
                "downlink.kind": lacking("exchanges", "'full' or 'codewords'", SEVERAL_MESSAGES),
            },
        ),
        (
            any(layout.worker_selected for layout in layouts),
            {"reduce.kind": one_of("star", why=SELECTED), "reduce.bits": one_of(None, why=SELECTED)},
        ),
        (
            not all(unit.uncoded for layout in layouts for unit in layout.units)
            and not (scheme.cuts_units and (owners or isinstance(state.assignment, ByUpdate))),
            {"reduce.kind": one_of("star", why=CODED), "reduce.bits": one_of(None, why=CODED)},
        ),
        (
            len(layouts) > 1 and owners > 0,
            {"wire.dtype": unrounded("has several rounds, whose sums are not rounded")},
        ),
    ]
    for found, needs in structures:
        if found:
            requirements.ensure(scheme.config, f"scheme '{name}'", needs)


def worker_builder(
    config: Config, components: Components, shares: bool = False, audits: DataSource | None = None
) -> Callable[[int, Sequence[Reply]], Worker]:
    """Return a function that builds any worker in this process, for runs on the virtual clock.

    If `shares`, workers that would have replicas of θ use rank 0's θ itself. With `audits`, their data, they
    recompute tasks, without injected faults.
    """
    source, scheme, facts = audits or components.source, components.scheme, components.facts
    assert source is not None

    def build(worker: int, replies: Sequence[Reply]) -> Worker:
        arrays = scheme.placement.worker_data(source, worker)
        state = components.state if shares else None
        return WorkerFactory(scheme, worker, arrays, facts, state).build(replies, faulty=audits is None)

    return build


class WorkerFactory:
    """Factory of a worker: problem and layouts first, and the worker once its reply buffers exist.

    `arrays` are the worker's data, see `schemes.Placement`; `facts` are `Components.facts`; `state` is
    rank 0's, if the worker uses its θ in place of a replica.
    """

    def __init__(
        self,
        scheme: Scheme,
        worker: int,
        arrays: dict[str, np.ndarray],
        facts: dict[str, Any],
        state: State | None = None,
    ) -> None:
        self.scheme, self.worker, self.rows = scheme, worker, facts["rows"]
        self.problem = scheme.placement.build_problem(arrays, worker)
        if scheme.config.shuffle.moves:  # in place
            data = self.problem.dataset
            self.problem.dataset = replace(data, train=tuple(each.copy() for each in data.train))
        reduction = scheme.config.reduction
        self.replica, self.layouts = reduction.replica(scheme, self.problem, facts["weights"], state)

    def build(self, replies: Sequence[Reply], faulty: bool = True) -> Worker:
        """Build the worker that writes its replies to these buffers, one per round; `faulty`: as injected."""
        encoders: Sequence[Any] = self.scheme.encoders(self.problem, self.worker, self.rows, replies)
        config = self.scheme.config
        self.replica.connect(replies)
        if config.faults.audit:
            encoders = [AuditedEncoder(each, config, self.worker, self.problem.state) for each in encoders]
        events = faults.of_worker(config, self.worker) if config.faults and faulty else ()
        if numeric := [event for event in events if event.numeric]:
            active = faults.ActiveFaults(numeric)
            encoders = faulty_encoders(encoders, replies, self.worker, config.seed, active)
        recipient = config.shuffle.recipient(config, self.worker, self.rows, self.problem)
        own = self.problem.state, recipient
        return Worker(self.worker, self.replica, encoders, config.seed, replies, *own)
