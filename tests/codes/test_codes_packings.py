"""The optimised family: known packings found again, seeds, resumption, processes, supports, refusals."""

from __future__ import annotations

from functools import cache
from math import sqrt

import numpy
import pytest
from pdcode_packings import polish, restarts, search

from pdcode import codes
from pdcode.util.errors import InputError

pytestmark = pytest.mark.slow


def matrix(rows, blocks, weight=None, seed=0, **options):
    """Dense rows (n, k) of the optimised code."""
    weight = blocks if weight is None else weight
    indices, values = search.optimized(rows, blocks, weight, seed, **options)
    assert indices.shape == values.shape == (rows, weight)
    assert all(len(set(row)) == weight for row in indices.tolist())
    dense = numpy.zeros((rows, blocks))
    numpy.put_along_axis(dense, indices, values, axis=1)
    numpy.testing.assert_allclose((dense**2).sum(axis=1), 1, rtol=1e-14)
    return dense


def coherence(dense):
    return polish.coherence(dense.T)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("blocks", "rows", "expected"),
    [
        (3, 4, 1 / 3),
        (3, 6, 1 / sqrt(5)),
        (3, 7, 1 / sqrt(3)),
        (4, 8, sqrt(2) - 1),
        (4, 11, 0.5),
        (5, 6, 0.2),
        (5, 10, 1 / 3),
        (5, 16, 1 / sqrt(5)),
        (6, 11, sqrt(0.1)),
        (6, 16, 1 / 3),
        (7, 14, 1 / sqrt(13)),
        (7, 24, 1 / 3),
        (7, 28, 1 / 3),
    ],
)
def test_known_packings_are_found(blocks, rows, expected):
    assert coherence(matrix(rows, blocks, restarts=32)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("blocks", "rows", "known"), [(5, 7, 0.286208264), (3, 9, 0.669362319), (6, 19, 0.384778551)]
)
def test_packings_without_a_closed_form_are_as_good_as_known(blocks, rows, known):
    assert coherence(matrix(rows, blocks, restarts=32)) == pytest.approx(known, rel=3e-9)


@pytest.mark.system
def test_equiangular_lines_of_a_conference_matrix_are_found():
    assert coherence(matrix(26, 13, restarts=800)) == pytest.approx(1 / 5, rel=1e-10)


@pytest.mark.parametrize(("order", "signed"), [(5, False), (5, True), (7, True)])
def test_an_average_is_left_as_it_is(order, signed):
    """By a cyclic shift of `order` places, whose last changes its sign or not, and two fixed points."""
    random = numpy.random.default_rng(0).normal(size=(order + 2, order + 2))
    places = numpy.append(numpy.roll(numpy.arange(order), 1), [order, order + 1])
    signs = numpy.ones(order + 2)
    signs[0] = -1 if signed else 1
    mean = restarts.average(random + random.T, places, signs)
    numpy.testing.assert_allclose(signs[:, None] * signs * mean[numpy.ix_(places, places)], mean, atol=1e-12)
    assert numpy.ptp(numpy.diag(mean)[:order]) < 1e-12
    assert numpy.abs(mean).max() > 0.1


@pytest.mark.parametrize(("rows", "blocks"), [(13, 6), (25, 12), (28, 13), (2, 1)])
def test_invariant_starts_are_symmetric(rows, blocks):
    """Their inner products take far fewer values than those of random points, in most draws."""
    problem = restarts.PackingProblem(rows, blocks, blocks, 0, "free")
    several = []
    for index in range(20):
        points = restarts.invariant(rows, blocks, restarts.Draws(problem, index))
        assert points.shape == (blocks, rows)
        assert numpy.square(points).sum(axis=0).min() > 0
        gram = numpy.abs(points.T @ points)[numpy.triu_indices(rows, 1)]
        several.append(len(numpy.unique(gram.round(9))))
    assert numpy.median(several) <= max(1, rows * (rows - 1) / 5)


def test_a_descent_is_left_where_it_cannot_reach_the_goal():
    """No packing of 9 lines in R^4 has coherence 0.1, while the goal 0.9 lets it end as without one."""
    problem = restarts.PackingProblem(9, 4, 4, 0, "free")
    start, supports = restarts.Draws(problem, 0).normals(4, 9), restarts.dense_supports(4, 9)
    stages = restarts.sharpnesses(4.0, 4.0)
    ends = [
        restarts.anneal(problem, start.copy(), supports, stages, goal=goal).coherence
        for goal in (1.0, 0.9, 0.1)
    ]
    assert ends[0] == ends[1] < ends[2]


def test_it_is_a_family_of_design():
    code = codes.design("optimized", workers=5, blocks=3, seed=4, restarts=32)
    assert (code.family, code.weight, len(code)) == ("optimized", 3, 5)
    assert code.coherence == pytest.approx(1 / sqrt(5), rel=1e-10)


def test_the_seed_decides():
    first, again, other = (matrix(13, 6, seed=seed, restarts=3) for seed in (1, 1, 2))
    assert (first == again).all()
    assert not numpy.allclose(first, other)


def test_processes_do_not_change_the_result():
    one, two = (matrix(13, 5, restarts=21, processes=processes) for processes in (1, 2))
    assert (one == two).all()


@cache
def uninterrupted():
    return matrix(13, 6, seed=3, restarts=24)


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("stop", [7, 16, 19])
def test_an_interrupted_search_ends_as_if_it_had_not_been(tmp_path, stop):
    state = tmp_path / "state.npz"

    def interrupt(done, total, best):
        if done == stop:
            raise Stop

    with pytest.raises(Stop):
        matrix(13, 6, seed=3, restarts=24, state=state, progress=interrupt)
    seen = []
    resumed = matrix(13, 6, seed=3, restarts=24, state=state, progress=lambda *report: seen.append(report))
    assert (resumed == uninterrupted()).all()
    assert [done for done, _, _ in seen] == list(range(stop + 1, 25))
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_more_restarts_go_on_from_the_state(tmp_path):
    state = tmp_path / "state.npz"
    matrix(13, 6, restarts=5, state=state)
    seen = []
    longer = matrix(13, 6, restarts=20, state=state, progress=lambda done, *_: seen.append(done))
    assert seen == list(range(6, 21))
    assert (longer == matrix(13, 6, restarts=20)).all()


def test_a_state_of_another_problem_or_none_is_refused(tmp_path):
    state = tmp_path / "state.npz"
    matrix(9, 4, restarts=1, state=state)
    with pytest.raises(InputError, match="of another problem"):
        matrix(9, 4, seed=1, restarts=1, state=state)
    state.write_text("no archive")
    with pytest.raises(InputError, match="not a state of the optimiser"):
        matrix(9, 4, restarts=1, state=state)


def _changed(content, **changes):
    return {
        name: changes.get(name, value) for name, value in content.items() if changes.get(name, 0) is not None
    }


def test_a_damaged_state_is_refused(tmp_path):
    state = tmp_path / "state.npz"
    matrix(9, 4, restarts=17, state=state)
    data, content = state.read_bytes(), dict(numpy.load(state))
    for damaged in b"", data[: len(data) // 2], data[:400] + bytes([data[400] ^ 255]) + data[401:]:
        state.write_bytes(damaged)
        with pytest.raises(InputError, match="not a state of the optimiser"):
            matrix(9, 4, restarts=18, state=state)
    for changes in (
        {"done": None},
        {"done": -1},
        {"done": -numpy.inf},
        {"done": 1e300},
        {"done": [1]},
        {"pool_points": numpy.full_like(content["pool_points"], 6e4, "f2")},
        {"pool_points": numpy.zeros((1000, 4, 9))},
        {"pool_points": content["pool_points"] * numpy.nan},
        {"pool_points": content["pool_points"][:, :3]},
        {"before_supports": content["before_supports"] + 4},
        {"pool_supports": content["pool_supports"][:0]},
    ):
        numpy.savez(state, **_changed(content, **changes))
        with pytest.raises(InputError, match="not a state of the optimiser"):
            matrix(9, 4, restarts=18, state=state)


@pytest.mark.parametrize("path", ["none/state.npz", ".", "", 7])
def test_a_state_that_cannot_be_written_is_refused_at_once(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    with pytest.raises(InputError, match=r"^state = "):
        matrix(9, 4, restarts=4, state=path, progress=lambda *report: seen.append(report))
    assert not seen


def test_progress_reports_the_least_coherence():
    seen = []
    matrix(13, 5, restarts=9, progress=lambda *report: seen.append(report))
    assert [(done, total) for done, total, _ in seen] == [(done, 9) for done in range(1, 10)]
    best = [value for _, _, value in seen]
    assert best == sorted(best, reverse=True)


def test_a_search_ends_at_a_lower_bound_or_after_its_seconds():
    seen = []
    matrix(4, 3, restarts=1000, progress=lambda done, *_: seen.append(done))
    assert len(seen) == search.ROUND  # the simplex reaches Welch's bound
    matrix(13, 5, restarts=1000, seconds=1e-6, progress=lambda done, *_: seen.append(-done))
    assert seen[search.ROUND :] == [-1]


@pytest.mark.parametrize("supports", ["free", "random", "net"])
def test_rows_of_low_weight_have_their_weight(supports):
    dense = matrix(18, 9, weight=3, restarts=8, supports=supports)
    assert (numpy.count_nonzero(dense, axis=1) <= 3).all()
    assert coherence(dense) < 0.7
    assert numpy.linalg.matrix_rank(dense, 0.03) == 9


def test_random_supports_are_balanced_and_net_supports_meet_once():
    problem = restarts.PackingProblem(14, 8, 3, 5, "random")
    counts = numpy.bincount(restarts.balanced_supports(problem, restarts.Draws(problem, 0)).ravel())
    assert counts.tolist().count(6) == 2
    assert counts.tolist().count(5) == 6
    sets = {
        tuple(row)
        for row in numpy.sort(restarts.net_supports(restarts.PackingProblem(18, 9, 3, 0, "net"))).tolist()
    }
    assert all(len(set(a) & set(b)) <= 1 for a in sets for b in sets if a != b)


def test_few_rows_are_orthogonal_and_weight_one_repeats():
    assert (matrix(3, 5) == numpy.eye(3, 5)).all()
    assert (matrix(3, 5, weight=2) == numpy.eye(3, 5)).all()
    assert (matrix(7, 3, weight=1) == numpy.eye(3)[numpy.arange(7) % 3]).all()


def test_polishing_is_quadratic_and_never_raises():
    random = numpy.random.default_rng(0)
    exact = matrix(6, 3, restarts=16).T
    near = exact + 1e-3 * random.normal(size=exact.shape)
    near /= numpy.linalg.norm(near, axis=0)
    used = numpy.ones(near.shape, bool)
    errors = [polish.coherence(polish.polish(near, used, steps, 0.02)) - 1 / sqrt(5) for steps in range(4)]
    assert errors[1] < 1e-4 < errors[0]
    assert abs(errors[3]) < 1e-14
    orthogonal = numpy.eye(4)
    assert (polish.polish(orthogonal, numpy.ones((4, 4), bool)) == orthogonal).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"supports": "lines"}, "supports = 'lines': not one of free, random, net"),
        ({"restarts": 0}, "restarts = 0: .* nearest: 1"),
        ({"restarts": True}, "restarts = True"),
        ({"processes": 0}, "processes = 0: .* nearest: 1"),
        ({"seconds": -1}, "seconds = -1: not a positive number"),
        ({"weight": 4, "supports": "net"}, "weight = 4: .* nearest: 3"),
        ({"rows": 99, "weight": 2, "supports": "net"}, "workers = 99: .* nearest: 30"),
    ],
)
def test_impossible_problems_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        search.optimized(**{"rows": 12, "blocks": 6, "weight": 6, "seed": 0, **arguments})
