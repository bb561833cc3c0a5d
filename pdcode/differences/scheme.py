"""Scheme "differences": a search by evaluations of a simulation at its workers, without a gradient.

Rank 0 chooses a point whenever a worker is idle (`search.Search`), and the worker evaluates it. An
evaluation that fails, or comes late, is an erasure. Rank 0 makes a step, with which the version of θ grows,
when the value at the start is known, and when a trial point is accepted.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from ..coding.memory import Memoryless, PayloadEncoder
from ..coding.optimizers import Optimizer
from ..coding.policies import Policy, Progress
from ..coding.state import State
from ..config import Config, Positive, Table, Tables, kinds
from ..problems import Problem
from ..schemes.base import UNCODED, Scheme, Work
from ..schemes.common import builders
from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.messages import Order, Reply, Task
from ..transport.units import Unit
from ..util.errors import InputError
from .columns import Columns
from .methods import BFGS, Derivatives, LevenbergMarquardt, Method
from .noise import Noise
from .problem import SimulationModel, recorded_evaluations
from .search import Search

if TYPE_CHECKING:
    from ..trace.reader import TraceReader


LETTERS = 6  # bytes of text in a number, which float64 has exactly


class Evaluator(Memoryless):
    """A worker's side: the values at a task's point, and after them 1, or 0 if the evaluation has failed.

    The reason of a failure is in place of the values, as far as they have place for it.
    `recorded` are the values of tasks that are not evaluated again; None: the evaluation has failed.
    """

    def __init__(
        self, model: SimulationModel, reply: Reply, recorded: Mapping[int, np.ndarray | None]
    ) -> None:
        super().__init__(reply)
        self._model, self._recorded = model, recorded

    def encode(self, theta: np.ndarray, task: Task) -> float:
        payload, known = self._reply.payloads[0][0], task.task in self._recorded
        values = self._recorded[task.task] if known else self._model.evaluate_at(theta)
        payload[-1] = values is not None
        if values is None:
            payload[:-1] = text_as_numbers("" if known else self._model.failure, len(payload) - 1)
        else:
            payload[:-1] = values
        return float("nan") if values is None else cost_of(self._model, values)


def text_as_numbers(text: str, count: int) -> np.ndarray:
    """Return a text, or its beginning, as numbers below 2⁴⁸, shape (count,)."""
    letters = np.frombuffer(text.encode()[: LETTERS * count].ljust(LETTERS * count, b"\0"), np.uint8)
    return letters.reshape(count, LETTERS) @ 256.0 ** np.arange(LETTERS)


def numbers_as_text(numbers: np.ndarray) -> str:
    """Return the text that `text_as_numbers` has made numbers."""
    letters = numbers[:, None] // 256.0 ** np.arange(LETTERS) % 256
    return letters.astype(np.uint8).tobytes().rstrip(b"\0").decode(errors="ignore")


def cost_of(model: SimulationModel, values: np.ndarray) -> float:
    """Return the cost of the values of an evaluation."""
    return (BFGS if model.residuals is None else LevenbergMarquardt).cost(values)


class Stream(Policy):
    """Policy of a stream of tasks: no worker waits for a step."""

    workers_wait = False


class EvaluationState(State):
    """Rank 0's side: a search, whose questions are tasks.

    Attributes
    ----------
    search : Search
    """

    tables: ClassVar[tuple[str, ...]] = ("evaluations",)
    state_names = (*State.state_names, "search", "_questions", "_moved", "_changed", "_now_ns", "_arrived_ns")

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        layout: Layout,
        search: Search,
        model: SimulationModel,
        workers: int,
    ) -> None:
        self.theta, self.optimizer, self.layouts = theta, optimizer, [layout]
        self.search, self._model = search, model
        self._questions = [-1] * workers  # of each worker
        self._moved = self._changed = False  # whether the point has, and whether anything has
        self._now_ns = self._arrived_ns = 0  # time of the question now, and of the last arrival

    def order(self, worker: int, task: int) -> Order | None:
        self.search.lost(self._questions[worker])  # one whose payload was refused
        number = self.search.ask(self._now_ns, worker)
        if number is None:
            self.wake_ns = self.search.ask_again_ns(self._now_ns)
            return None
        self._questions[worker] = number
        point = self.search.questions[number].point
        return Order(number, [self.layouts[0].uncoded], [np.ascontiguousarray(point).view(np.uint8)])

    def has_tasks(self, now_ns: int) -> bool:
        # Times are those of arrivals, or asked for before, so that a replay has them.
        if not self._changed:
            if self.wake_ns is None or now_ns < self.wake_ns:
                return False
            self._now_ns = self.wake_ns
        self._changed = False
        found = self.search.has_question(self._now_ns)
        self.wake_ns = None if found else self.search.ask_again_ns(self._now_ns)
        return found

    def fold(self, arrival: Arrival) -> float:
        self._now_ns = self._arrived_ns = arrival.t_recv_ns
        self._changed, self.wake_ns = True, None
        number, payload = self._questions[arrival.worker], arrival.payloads[0][0]
        self._keep(arrival, number, payload)
        self._questions[arrival.worker] = -1
        values = payload[:-1].copy() if payload[-1] else None
        self._moved |= self.search.tell(number, values, arrival.t_recv_ns, arrival.worker)
        if self.search.refused and not self.search.iterate:
            self._model.explain(self.search.x)
        return self.search.captured

    def drained(self, arrival: Arrival) -> None:
        self._keep(arrival, self._questions[arrival.worker], arrival.payloads[0][0])

    def _keep(self, arrival: Arrival, number: int, payload: np.ndarray) -> None:
        """Record the point and the values of an evaluation."""
        if number not in self.search.questions:
            return
        point = self.search.questions[number].point
        found = payload[:-1] if payload[-1] else np.array([np.nan])
        what = np.repeat([0, 1 if payload[-1] else 2], [len(point), len(found)])
        columns = {
            "worker": arrival.worker, "task": arrival.task, "what": what.astype(np.uint8),
            "place": np.concatenate([np.arange(len(point)), np.arange(len(found))]).astype(np.int32),
            "number": np.concatenate([point, found]),
        }  # fmt: skip
        self.record("evaluations", len(what), columns)
        if not payload[-1]:
            why = numbers_as_text(payload[:-1])
            text = f"worker {arrival.worker}: evaluation {arrival.task} has failed{why and f': {why}'}"
            self.record("faults", 1, {
                "t_ns": arrival.t_recv_ns, "worker": arrival.worker, "task": arrival.task,
                "kind": np.array([b"failed"]), "message": np.array([text.encode()[:256]]),
            })  # fmt: skip

    def ready(self, progress: Progress, expected: int) -> bool:
        return self._moved

    @property
    def ended(self) -> tuple[str, bool]:
        return self.search.ended, self.search.refused

    @property
    def results(self) -> dict[str, np.ndarray]:
        search = self.search
        if np.isnan(search.jacobian).any():
            return {}
        return {"values": search.values, "jacobian": search.jacobian}

    def usable(self, staleness: int, number: int) -> bool:
        return True

    def step(self, damping: float) -> float | None:
        norm = float(np.linalg.norm(self.search.x - self.theta))
        self._moved, self.theta[:] = False, self.search.x
        self._model.costs = {self.theta.tobytes(): self.search.cost}
        return norm

    def lost(self, worker: int) -> None:
        self._changed = True
        self.search.lost(self._questions[worker])
        self._questions[worker] = -1

    def resumed(self) -> None:
        self._questions[:] = [-1] * len(self._questions)
        self._now_ns, self._changed, self.wake_ns = self._arrived_ns, False, None
        self.search.resumed()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._model.costs = {self.theta.tobytes(): self.search.cost}


class Differences(Scheme):
    """Minimisation of a simulation by differences, in a stream of evaluations."""

    name = "differences"
    summary = "evaluations of a simulation without a gradient; combinations stand in for late and failed ones"
    tables: ClassVar[Tables] = {
        **UNCODED,
        "update": {"mode": "async"},
        "optimizer": {"kind": "sgd", "rate": 1.0},
    }
    unused: ClassVar[tuple[str, ...]] = ("code", "memory", "optimizer", "update", "wire")
    fused: ClassVar[bool] = False
    gradient_rate: ClassVar[str] = ""
    steps_by_update: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._recorded = dict[int, dict[int, np.ndarray | None]]()  # values of a worker's tasks

    class Options(Table):
        """Keys of ``[scheme] options``."""

        #: what idle workers evaluate while columns of the Jacobian are late: nothing (queue), copies, or
        #: combinations of all that are missing
        design: str = "combinations"
        #: relative change of cost and parameters at which the search has converged
        tolerance: Annotated[float, Meta(gt=0, lt=1)] = 1e-8
        #: what is sought: the least cost, or only the Jacobian at the start
        seek: Literal["minimum", "jacobian"] = "minimum"
        #: trial points that are evaluated side by side
        trials: Positive = 2
        #: largest standard error of a decoded column, as a multiple of that of one evaluation
        error: Annotated[float, Meta(ge=1)] = 4.0

    @classmethod
    def check(cls, config: Config) -> None:
        if config.problem.kind != "simulation":
            raise InputError(
                f"problem.kind: {config.problem.kind!r}: scheme 'differences' needs 'simulation'"
            )
        design = config.scheme.options.design
        if kinds.find("designs", design) is None:
            raise InputError(
                f"scheme.options.design: {design!r}: expected one of {', '.join(kinds.names('designs'))}"
            )

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        values = _model_of(problem).values + 1
        return [Layout([Unit(0, values, 1)], [1], [1], problem.dtype, body_bytes=8 * problem.size)]

    def policy(self) -> Policy:
        return Stream(self.config.update, self.workers)

    def state(self, problem: Problem) -> State:
        model, options = _model_of(problem), self.options
        lower, upper, k = model.lower, model.upper, problem.size
        kind: type[Method] = BFGS if model.residuals is None else LevenbergMarquardt
        kind = kind if options.seek == "minimum" else Derivatives
        method = kind(k, options.tolerance, lower, upper)
        relative, noise = model.relative_step, None
        if isinstance(relative, str):
            relative, noise = None, Noise(k, model.values, lower, upper)
        columns = Columns(k, model.values, lower, upper, model.pattern())
        search = Search(
            model.initial(self.config.seed), model.values, columns,
            kinds.find("designs", options.design)(), method, relative, options.error,
            options.trials, self.config.seed, noise,
        )  # fmt: skip
        theta, (layout,) = builders.initial_theta(self.config, problem), self.layouts(problem, ())
        state = EvaluationState(theta, self.optimizer(problem), layout, search, model, self.workers)
        state.policy = self.policy()
        return state

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        return [Evaluator(_model_of(problem), replies[0], self._recorded.get(worker, {}))]

    def recall(self, trace: "TraceReader") -> None:
        for worker, task, _, values in recorded_evaluations(trace):
            self._recorded.setdefault(worker, {})[task] = values

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        return Work(problem.model.flops(1, problem.dataset.train), 0)

    def step_flops(self, problem: Problem, layouts: Sequence[Layout]) -> float:
        return 2.0 * _model_of(problem).values * problem.size**2 + problem.size**3


def _model_of(problem: Problem) -> SimulationModel:
    assert isinstance(problem.model, SimulationModel)
    return problem.model
