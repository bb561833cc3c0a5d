"""A check of the losses and models that users define, before a run."""

import numpy as np

from ..config import kinds
from ..util.errors import InputError
from .matrix import Array
from .problem import NetworkProblem, Problem

ROWS, POINTS = 16, 8  # training rows, and random outputs at which derivatives are compared
STEPS = 10.0 ** np.arange(-7, 0)  # of differences: some are too short for float32, some too long for e^z
NEAR = 0.05  # relative difference of a derivative that counts as equal


def check_loss(problem: Problem, seed: int = 0) -> list[str]:
    """Check a user's loss or model: the shapes of its results, and derivatives against finite differences.

    `seed` draws the θ at which a model is examined.

    Returns
    -------
    list of str
        Lines for the user, on what does not prevent the run.

    Raises
    ------
    InputError
        If a shape differs, or derivatives contradict the losses at most of some random outputs, with steps of
        all sizes. Where losses are not finite, nothing is compared.
    """
    if not isinstance(problem, NetworkProblem):
        return _check_gradient(problem, seed)
    loss = problem.model.loss
    if not kinds.is_plugin(loss):
        return []
    y, outputs = problem.dataset.y[:ROWS], problem.layers[-1].outputs
    name, random = f"problem.kind: '{problem.table.kind}'", np.random.default_rng(0)
    if loss.by_samples:
        shapes = np.zeros((len(y), outputs), problem.dtype)
        made = loss.loss(shapes, y)
        pair = isinstance(made, tuple | list)
        found = [str(np.shape(part)) for part in made] if pair else [type(made).__name__]
        if found != [f"({len(y)},)", str(shapes.shape)]:
            raise InputError(
                f"{name}: loss returns {' and '.join(found)} for outputs of shape {shapes.shape}, "
                f"not losses of shape ({len(y)},) and derivatives of shape {shapes.shape}"
            )
    targets = y.astype(np.float64) if y.dtype.kind == "f" else y
    evaluate, compared = loss.evaluator(np.dtype(np.float64)), list[bool]()

    def value(point: Array) -> tuple[float, Array]:
        out = np.empty_like(point)
        return evaluate(point.copy(), targets, out, 1.0), out

    with np.errstate(all="ignore"):
        for direction, point in random.standard_normal((POINTS, 2, len(y), outputs)):
            given = float(np.vdot(value(point)[1], direction))
            ends = [[value(point + sign * h * direction)[0] for sign in (1, -1)] for h in STEPS]
            differences = np.subtract(*np.transpose(ends)) / (2 * STEPS)
            if np.isfinite([given, *differences]).all():
                rounding = 1e-9 * (1 + abs(ends[0][0]))
                compared.append(bool(np.isclose(differences, given, NEAR, rounding).any()))
    if sum(compared) < len(compared) / 2:
        raise InputError(
            f"{name}: loss returns derivatives that contradict its losses: along a random direction "
            f"{given:.3g}, by differences {differences[len(STEPS) // 2]:.3g}"
        )
    return []


def _check_gradient(problem: Problem, seed: int) -> list[str]:
    """Compare the gradient of a model with another evaluation, and with differences of its loss.

    These are along random parts of the gradient.
    """
    name, random = f"problem.kind: '{problem.table.kind}'", np.random.default_rng(0)
    rows = tuple(each[:ROWS] for each in problem.dataset.train)
    theta = problem.initial(seed)
    found, unused = np.empty_like(theta), np.empty_like(theta)

    def loss(point: Array, out: Array) -> float:
        return problem.model.gradient(point.astype(problem.dtype), rows, out, None, problem.model.state())

    with kinds.errors_of_user(name):
        lines = problem.model.examine(theta.copy(), rows)
        if problem.model.deferred:
            return lines
        first, compared = loss(theta, found), list[bool]()
        problem.measure(theta)
        again = loss(theta, unused)
        alike = np.array_equal([first], [again], equal_nan=True)
        if not (alike and np.array_equal(found, unused, equal_nan=True)):
            losses = (
                f"{first:.6g} and {again:.6g}" if first != again else f"{first:.6g}, with other gradients"
            )
            lines.append(
                f"{name}: two evaluations of the same rows differ (loss {losses}): it is not a function of "
                f"rows and key, and replays will differ; {problem.model.why_impure(theta, rows)}"
            )
    if not problem.model.checked:
        return lines
    with np.errstate(all="ignore"):
        for _ in range(POINTS):
            direction = found * (random.random(problem.size) < 0.5)
            if not (length := float(np.linalg.norm(direction))) > 0:
                continue
            given, direction = length, direction / length
            steps = STEPS * max(1.0, float(np.linalg.norm(theta)))
            ends = [[loss(theta + sign * h * direction, unused) for sign in (1, -1)] for h in steps]
            differences = np.subtract(*np.transpose(ends)) / (2 * steps)
            if np.isfinite([given, *differences]).any():
                compared.append(bool(np.isclose(differences, given, NEAR, 1e-9 * (1 + abs(first))).any()))
    if sum(compared) < len(compared) / 2:
        raise InputError(
            f"{name}: gradients contradict the losses: along a part of the gradient {given:.3g}, "
            f"by differences {differences[len(STEPS) // 2]:.3g}"
        )
    return lines
