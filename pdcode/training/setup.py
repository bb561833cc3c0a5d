"""What rank 0 and the workers make of a configuration before they start."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .. import problems, stragglers
from ..coding import memory, optimizers
from ..coding import replica as downlink
from ..coding.assignments import Assignment
from ..coding.replica import State
from ..config.tables import Config, Stop
from ..problems import Dataset, Problem, Source
from ..schemes import base as coding
from ..transport.layout import Layout
from ..transport.messages import Reply
from ..util.errors import InputError, within
from ..util.rng import Batches
from . import policies
from .policies import Ready
from .worker import Worker


@dataclass
class Parts:
    """What rank 0 makes before MPI starts, so that bad input never reaches it."""

    source: Source | None
    git_commit: str
    problem: Problem
    assignment: Assignment
    layout: Layout
    state: State
    ready: Ready


def prepare(config: Config, path: str = "", source: Source | None = None, check: bool = True) -> Parts:
    """Load the data, unless they are given, and make rank 0's parts.

    Without `check`, of a run that has been, it does not matter whether another would end, or has its delays.

    Raises
    ------
    InputError
        Naming the file, key and value.
    """
    workers = config.workers.count
    with within(path):
        if config.stop == Stop():
            raise InputError("stop: nothing would end the run; give updates, seconds, loss or accuracy")
        if check:
            policies.check_end(config, stragglers.dead(config.stragglers, workers))
        source = source or problems.describe(config.problem)
        problem = Problem.from_dataset(config.problem, source.dataset, config.code.blocks)
        source.shard(workers - 1, workers)  # enough rows for all
        assignment = coding.create(config, problem.layers, workers)
        state = make_state(config, problem, assignment)
        layout = make_layout(config, problem, assignment.weights, state)
        ready = policies.create(config.update, workers)
    return Parts(source, git_commit(), problem, assignment, layout, state, ready)


def make_state(config: Config, problem: Problem, assignment: Assignment | None = None) -> State:
    """The first θ, the decoders and the optimizer."""
    designs = None if assignment is None else assignment.designs
    made = coding.make_decoders(config, problem.layers, designs)
    optimizer = optimizers.create(config.optimizer, problem.size, problem.dtype)
    return State(problem.initial(config.seed), made, optimizer)


def make_layout(config: Config, problem: Problem, weights: list[int], state: State | None) -> Layout:
    """The layout of the messages; `state` is that of a replica if workers have one."""
    return Layout(
        problem.layers,
        coding.rows_of(config, problem.layers),
        weights,
        problem.dtype,
        config.wire.dtype or "",
        config.code.chosen,
        state.bytes if state is not None and config.downlink.kind == "codewords" else None,
        config.code.adapts,
    )


def employer(config: Config, parts: Parts) -> Callable[[int, Reply], Worker]:
    """What makes each worker from rank 0's parts, where workers are not ranks of their own."""
    source, workers, weights = parts.source, config.workers.count, parts.assignment.weights
    assert source is not None

    def employ(worker: int, reply: Reply) -> Worker:
        shard = problems.receive(config.problem, source.shard(worker, workers), worker, workers)
        return Staff(config, shard, worker, weights, source.dealt(workers)).employ(reply)

    return employ


def make_downlink(config: Config, parts: Parts) -> downlink.Downlink:
    """Rank 0's side of the downlink."""
    if config.downlink.kind == "full":
        return downlink.Full(parts.state.theta)
    return downlink.Relay(parts.layout, parts.state, config.workers.count, config.downlink.check)


class Staff:
    """A worker's parts: what it has before its link's buffers are made, and then the worker.

    Parameters
    ----------
    config : Config
    dataset : Dataset
        Its shard.
    worker : int
    weights : list of int
        Weight of each layer's codewords.
    rows : int
        Training rows of all shards together, `Source.dealt`.
    """

    def __init__(self, config: Config, dataset: Dataset, worker: int, weights: list[int], rows: int) -> None:
        self.config, self.dataset, self.worker = config, dataset, worker
        self.problem = Problem.from_dataset(config.problem, dataset, config.code.blocks)
        self.state = make_state(config, self.problem) if config.downlink.kind == "codewords" else None
        self.layout = make_layout(config, self.problem, weights, self.state)
        # so that the mean over workers is that over rows
        self._share = config.workers.count * dataset.rows / rows

    def employ(self, reply: Reply) -> Worker:
        """The worker that answers in this buffer."""
        config, problem, layout = self.config, self.problem, self.layout
        plan = problem.plan(config.problem.batch, layout.rows, reply.payload, self._share)
        choosers = (lambda: coding.choosers(config, problem.layers, self.worker)) if layout.chosen else None
        respond = memory.create(config.memory.kind, plan, reply, choosers)
        replica = downlink.View(layout) if self.state is None else downlink.Mirror(layout, self.state)
        batches = Batches(config.seed, self.worker, self.dataset.rows, config.problem.batch)
        return Worker(self.worker, replica, respond, batches, config)


@cache
def git_commit() -> str:
    """Commit of the source tree that runs, or an empty string."""
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return ""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
