"""The search for a minimum by evaluations: the points that are asked for, and the use of their values.

It knows neither messages nor clocks: `ask` returns a question for an idle worker, `tell` takes the answer, at
times that the caller gives. A point has three phases: its value, if it is the first one, and the noise there,
if that is wanted; the columns of its Jacobian; trial points, one of which becomes the next point.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import msgspec
import numpy as np

from ..util.stateful import Stateful, state_of
from .columns import Columns, Relative
from .designs import Queue
from .methods import LEAST, POOR, Method
from .noise import Noise

START, NOISE, COLUMN, SPARE, TRIAL = "start", "noise", "column", "spare", "trial"
FEWEST = 20  # failures, with one for each parameter, that end no search
BROKEN = 5  # failures in a row of a worker, after which it has one evaluation at each further point
KEPT = 256  # times of evaluations that are kept
LONGER = 1.1  # multiple of the median time, beyond which an evaluation takes longer than a new one
ASKED_AGAIN = 0.25  # multiple of the median time after which an idle worker asks again


class Question(msgspec.Struct, eq=False):
    """An evaluation that a worker has been asked for."""

    kind: str
    point: np.ndarray  # shape (k,)
    iterate: int  # number of the point at which it was asked
    asked_ns: int
    direction: np.ndarray  # of a column or a combination, shape (k,)
    number: int = 0  # of a trial, or a point for noise
    column: int = -1  # of a column by itself
    predicted: float = 0.0  # decrease of the cost at a trial


class Search(Stateful):
    """Search from a point.

    Parameters
    ----------
    x : ndarray of float64, shape (k,)
        The start; changed in place as the search goes on.
    m : int
        Number of values of an evaluation.
    columns : Columns
    design : Queue
    method : Method
    relative_step : float, (ndarray, ndarray) or None
        Steps of differences, see `steps_at`.
    most_error : float
        Largest standard error of a decoded column, as a multiple of that of one evaluation.
    trials : int
        Trial points that are evaluated side by side.
    seed : int
        Key of the random numbers.
    noise : Noise, optional
        Measures the noise, from which steps follow.

    Attributes
    ----------
    iterate : int
        Number of the point: 0 until the value at the start is known.
    values : ndarray of float64, shape (m,)
        Values at the point, once they are known.
    jacobian : ndarray of float64, shape (m, k)
        Derivatives at the last point where they were known; nan before.
    ended : str
        Reason why the search is over; empty: it is not.
    refused : bool
        Whether that is because an evaluation has failed.
    """

    state_names = (
        "x", "values", "iterate", "ended", "refused", "columns", "method", "noise", "_times_ns", "_ready",
        "_results", "_asked", "evaluated", "failures", "_in_a_row",
        "_failed_starts", "jacobian",
    )  # fmt: skip
    state_types = (("_times_ns", list[int]), ("_results", list))

    def __init__(
        self,
        x: np.ndarray,
        m: int,
        columns: Columns,
        design: Queue,
        method: Method,
        relative_step: Relative = None,
        most_error: float = 4.0,
        trials: int = 4,
        seed: int = 0,
        noise: Noise | None = None,
    ) -> None:
        self.x, self.values, self.columns, self.design, self.method = x, np.zeros(m), columns, design, method
        self._relative_step, self._most_error, self._trials = relative_step, most_error, trials
        self.noise = noise
        self._seed, self.iterate, self.ended, self.refused = seed, 0, "", False
        self.questions = dict[int, Question]()  # under way, by number
        self._asked = self.evaluated = self.failures = 0
        self._failed_starts = 0
        self._in_a_row = dict[int, int]()  # last evaluations of a worker that have failed
        self._times_ns = list[int]()
        self._ready, self.jacobian = False, np.full((m, len(x)), np.nan)  # whether it is known here
        self._results = list[list[Any]]()  # of trials: number, cost, values
        columns.begin(x, relative_step)

    @property
    def cost(self) -> float:
        """Cost of the point; nan before it is known."""
        return self.method.cost(self.values) if self.iterate else float("nan")

    @property
    def captured(self) -> float:
        """Fraction of the Jacobian that is determined, 0 to 1."""
        return self.columns.captured

    # Questions.

    def has_question(self, now_ns: int) -> bool:
        """Return whether there is something to evaluate now."""
        return not self.ended and self._wanted(now_ns) is not None

    def ask(self, now_ns: int, worker: int = 0) -> int | None:
        """Return the number of a new question for an idle worker; None: there is none for it now."""
        failed = self._in_a_row.setdefault(worker, 0)
        if failed >= BROKEN > min(self._in_a_row.values()):  # others do not fail
            return None
        wanted = None if self.ended else self._wanted(now_ns)
        question = None if wanted is None else self._question(*wanted, now_ns)
        if question is None:
            return None
        self._asked += 1
        self.questions[self._asked] = question
        return self._asked

    def _wanted(self, now_ns: int) -> tuple[str, int] | None:
        """Return the kind, and the number, of the evaluation that is wanted most; None: none is."""
        if not self.iterate:
            starts = self._under_way(START)
            if not starts or (self.design.speculates and self._slow(starts, now_ns) > len(starts) - 0.5):
                return START, 0
        if self.noise is not None and not self.noise.done:
            under_way = self._under_way(NOISE)
            asked = {each.number for each in under_way}
            if left := [number for number in self.noise.missing if number not in asked]:
                return NOISE, left[0]
            late = len(under_way) > 0 and self._slow(under_way, now_ns) > len(under_way) - 0.5
            return (NOISE, under_way[0].number) if late else None
        if self._ready:
            trials = self._under_way(TRIAL)
            if len(trials) - self._slow(trials, now_ns) >= self._trials - 0.5:
                return None
            if len({each.number for each in trials}) < self.method.beside:
                return TRIAL, self._untried
            if not self.design.speculates or len(trials) >= self._trials or not self._varied:
                return None
            return TRIAL, max(trials, key=lambda each: each.predicted).number  # again, elsewhere
        columns, under_way = self.columns, self._under_way(COLUMN)
        taken = columns.known | columns.failed
        alone = [each for each in under_way if each.column >= 0]
        taken[[each.column for each in alone]] = True
        if not taken.all():
            return COLUMN, int((~taken).argmax())
        if not self.design.speculates:
            return None
        # Another evaluation is needed for columns that have failed, or take longer than a new one, or, once
        # all are determined, while they are inaccurate.
        needed = self._slow(alone, now_ns) + float(np.sum(columns.failed & ~columns.known))
        if 0 < np.count_nonzero(~columns.known) <= columns.combined:
            needed = max(needed, columns.combined + 1.0)
        spare = columns.combined + len(under_way) - len({each.column for each in alone})
        return (SPARE, -1) if needed > spare + 0.5 else None

    def _question(self, kind: str, number: int, now_ns: int) -> Question | None:
        columns = self.columns
        if kind == TRIAL:
            trial = self.method.trial(number)
            if trial is None:
                return None
            return Question(
                TRIAL, trial.x, self.iterate, now_ns, columns.x * 0, number, predicted=trial.predicted
            )
        if kind == START:
            return Question(START, columns.x.copy(), self.iterate, now_ns, columns.x * 0)
        if kind == NOISE:
            assert self.noise is not None
            point = self.noise.point(number, columns.x)
            return Question(NOISE, point, self.iterate, now_ns, columns.x * 0, number)
        direction = columns.coordinate(number) if kind == COLUMN else self._spare()
        return None if direction is None else self._column(direction, now_ns)

    def _spare(self) -> np.ndarray | None:
        under_way = self._under_way(COLUMN)
        return self.design.spare(self.columns, [each.direction for each in under_way], self._key)

    @property
    def _key(self) -> tuple[int, int]:
        return self._seed, self.iterate

    def _column(self, direction: np.ndarray, now_ns: int) -> Question:
        places = np.flatnonzero(direction)
        column = int(places[0]) if len(places) == 1 else -1
        return Question(COLUMN, self.columns.point(direction), self.iterate, now_ns, direction, column=column)

    @property
    def _untried(self) -> int:
        """Number of the first trial that has neither been evaluated nor is under way."""
        taken = {number for number, *_ in self._results} | {each.number for each in self._under_way(TRIAL)}
        return next(number for number in count() if number not in taken)

    def _under_way(self, kind: str) -> list[Question]:
        """Return the questions of a kind that are under way at this point."""
        return [
            each for each in self.questions.values() if each.kind == kind and each.iterate == self.iterate
        ]

    def _slow(self, questions: Sequence[Question], now_ns: int) -> float:
        """Return how many of these evaluations are expected to take longer than a new one.

        They are independent draws of the times so far, given that they have not ended yet.
        """
        if not self._times_ns or not questions:
            return 0.0
        times, typical_ns = self._times()
        so_far = now_ns - np.array([each.asked_ns for each in questions])
        left = len(times) - np.searchsorted(times, so_far / LONGER, "right")
        longer = len(times) - np.searchsorted(times, so_far + LONGER * typical_ns, "right")
        return float(np.where(left > 0, longer / np.maximum(left, 1), 1.0).sum())

    def _times(self) -> tuple[np.ndarray, float]:
        """Return the times so far in order, and their median."""
        times = np.sort(self._times_ns)
        return times, float(times[len(times) // 2])

    @property
    def _varied(self) -> bool:
        """Whether the first of two evaluations is to be expected a good deal before one by itself."""
        times = self._times()[0] if self._times_ns else np.zeros(0)
        weights = np.arange(2 * len(times) - 1, 0, -2) / max(1, len(times)) ** 2  # of the lesser of two
        return bool(len(times) > 1 and LONGER * (weights @ times) < times.mean())

    def ask_again_ns(self, now_ns: int) -> int | None:
        """Return when to ask again if nothing arrives; None: only after an answer."""
        if self.ended or not self._times_ns:
            return None
        return now_ns + max(1, round(ASKED_AGAIN * self._times()[1]))

    # Answers.

    def lost(self, number: int) -> None:
        """Forget a question whose worker will not answer."""
        self.questions.pop(number, None)

    def tell(self, number: int, values: np.ndarray | None, now_ns: int, worker: int = 0) -> bool:
        """Take the values of a question, shape (m,), or None if a worker's evaluation has failed.

        Return whether the point has changed, or its value has become known.
        """
        question = self.questions.pop(number, None)
        if question is None or self.ended:  # asked before the run was resumed
            return False
        self.evaluated += 1
        self.failures += values is None
        self._in_a_row[worker] = self._in_a_row.get(worker, 0) + 1 if values is None else 0
        if values is not None:  # a machine that is broken fails at once
            self._times_ns = [*self._times_ns, now_ns - question.asked_ns][-KEPT:]
        if question.iterate != self.iterate or (question.kind == START and self.iterate):
            return False
        if self.failures > FEWEST + len(self.x) and min(self._in_a_row.values()) >= BROKEN:
            self.ended, self.refused = "the last evaluations of all workers have failed", True
            return False
        if question.kind == START:
            self._failed_starts += values is None
            if self._failed_starts > 1:  # that of another worker, too, where there is one
                self.ended, self.refused = "the evaluation at the start has failed", True
            return values is not None and self._started(values)
        if question.kind == NOISE:
            assert self.noise is not None
            self.noise.add(question.number, values, self.values if self.iterate else None)
            self._measured()
            return False
        if question.kind == COLUMN:
            if self._ready:  # without it
                return False
            self.columns.add(question.direction, values)
            if values is None and self._repeat(question):
                return False
        elif all(question.number != number for number, *_ in self._results):
            cost = float("inf") if values is None else self.method.cost(values)
            self._results.append([question.number, cost, np.zeros(0) if values is None else values.copy()])
            self.method.rejected(question.number, self.cost - cost)
        if self._results:
            return self._choose(now_ns)
        if not self._ready:
            self._derive()
        return False

    def _started(self, values: np.ndarray) -> bool:
        self.values[:], self.iterate = values, 1
        for each in self.questions.values():  # its columns may be under way
            each.iterate = 1
        if self.noise is not None:
            self.noise.settle(self.values)
            self._measured()
        self._derive()
        return True

    def _measured(self) -> None:
        """Take the step that follows from the noise."""
        if self.noise is not None and self.noise.done and self.noise.step != self.columns.usual:
            self.columns.usual = self.noise.step
            self.columns.begin(self.x, self._relative_step)

    def _repeat(self, question: Question) -> bool:
        """Repeat an evaluation of a column that has failed, or end the search, unless another stands in."""
        if self.design.repeats < 0:
            return False
        column = question.column
        if self.columns.known[column]:  # by a copy
            return False
        self.columns.attempts[column] += 1
        if self.columns.attempts[column] > self.design.repeats:
            self.ended, self.refused = f"the evaluation of column {column} has failed again", True
        self.columns.failed[column] = False  # to be asked for again
        return True

    def _derive(self) -> None:
        """Compute the Jacobian, if enough is known."""
        if not self.iterate:
            return
        jacobian = self.columns.jacobian(self.values, self._most_error)
        if jacobian is not None:
            self._ready, self.jacobian[:] = True, jacobian
            self.ended = self.method.prepare(self.columns.x, self.values.copy(), jacobian) or self.ended
        elif self.columns.wrong:
            for each in self._under_way(COLUMN):  # along groups that are no more
                each.iterate = -1
            self.columns.begin(self.x, self._relative_step, again=True)

    def _choose(self, now_ns: int) -> bool:
        """Accept a trial point if one is good, or the best once all have been evaluated.

        One that promises less than another waits for that, unless it is late.
        """
        number, cost, values = min(self._results, key=lambda each: each[1])
        trial = self.method.trial(number)
        assert trial is not None
        decrease = self.cost - cost
        ratio = decrease / trial.predicted if trial.predicted > 0 else 0.0
        told = {number for number, *_ in self._results}
        under_way = [each for each in self._under_way(TRIAL) if each.number not in told]
        waits = len(under_way) > 0
        better = [each for each in under_way if each.predicted > trial.predicted]
        good = ratio >= POOR and len(better) - self._slow(better, now_ns) < 0.5
        if not (good or (ratio > LEAST and not waits)):
            if not waits and (self.method.trial(self._untried) is None or self._stands_still()):
                self.ended = "converged: no step decreases the cost"
            return False
        self.ended = self.method.ended(self.x, abs(self.cost), trial, decrease)
        self.method.accepted(number, ratio)
        self.x[:], self.values[:] = trial.x, values
        self.iterate += 1
        self.columns.begin(self.x, self._relative_step)
        self._ready, self._results = False, []
        self._in_a_row = {each: min(count, BROKEN - 1) for each, count in self._in_a_row.items()}
        return True

    def _stands_still(self) -> bool:
        """Return whether the last trial is too short, or promises too little, to go on."""
        trial = self.method.trial(self._results[-1][0])
        assert trial is not None
        return trial.predicted >= 0 and bool(self.method.ended(self.x, abs(self.cost), trial, 0.0))

    def state_dict(self) -> dict[str, Any]:
        under_way = [[number, *msgspec.structs.astuple(each)] for number, each in self.questions.items()]
        return super().state_dict() | {"questions": state_of(under_way)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({name: state[name] for name in state if name != "questions"})
        self.questions = {number: Question(*values) for number, *values in state["questions"]}
        if self._ready:
            self._derive()

    def resumed(self) -> None:
        """Go on without the questions under way, which are lost, and which a trace does not have."""
        self.questions.clear()
        self._asked = self.evaluated
        self.columns.drawn = self.columns.combined + self.columns.refused
