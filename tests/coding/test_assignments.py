"""Which codewords a task gets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes
from pdcode.schemes.common.assignments import Assignment, Rotating, Static, WorkerSelected, group_by_support
from pdcode.transport.units import Blocks
from pdcode.util.errors import InputError

F4 = np.dtype("float32")
WHOLE = Blocks(1, "output", 1, 10, 65, 4160)


def layer(k: int) -> Blocks:
    return Blocks(0, "output", k, 64, 65, 0)


def net(n: int, k: int, w: int) -> codes.Code:
    return codes.design("net", workers=n, blocks=k, weight=w)


def dense(pair: tuple[np.ndarray, np.ndarray], k: int) -> np.ndarray:
    matrix = np.zeros((len(pair[0]), k))
    np.add.at(matrix, (np.arange(len(pair[0]))[:, None], pair[0]), pair[1])
    return matrix


def test_static_rows_belong_to_workers() -> None:
    code = net(16, 8, 2)
    made = Static([layer(8), WHOLE], [2, 1], F4, {8: code})
    assert [made.row(worker) for worker in (0, 3, 3, 1)] == [0, 6, 6, 2]
    assert made.weights == [2, 1]
    np.testing.assert_allclose(dense(made.codewords(6)[0], 8), code.matrix[6:8], rtol=1e-6)
    np.testing.assert_allclose(dense(made.codewords(16)[0], 8), code.matrix[:2], rtol=1e-6)
    np.testing.assert_array_equal(dense(made.codewords(6)[1], 1), [[1]])


@given(st.sampled_from([(8, 4), (16, 4), (16, 2), (64, 4)]), st.sampled_from([1, 2, 4]), st.integers(0, 5))
def test_rotating_rows_are_an_orthonormal_basis_each_time_round(size, rows, epoch):
    k, w = size
    made = Rotating([layer(k)], [rows], F4, {k: net(k, k, w)}, 3)
    words = [dense(made.codewords(epoch * k + row)[0], k) for row in range(0, k, rows)]
    np.testing.assert_allclose(np.vstack(words) @ np.vstack(words).T, np.eye(k), atol=1e-6)


def test_codewords_depend_on_the_row_number_alone() -> None:
    first, second = (Rotating([layer(16)], [1], F4, {16: net(16, 16, 4)}, 5) for _ in range(2))
    forwards = [dense(first.codewords(row)[0], 16) for row in range(64)]
    backwards = [dense(second.codewords(row)[0], 16) for row in reversed(range(64))]
    np.testing.assert_array_equal(forwards, backwards[::-1])
    assert (forwards[0] != forwards[16]).any()


@given(
    workers=st.integers(1, 8),
    rows=st.sampled_from([1, 2, 3]),
    used=st.lists(st.integers(1, 8), min_size=2, max_size=6),
)
def test_an_update_begins_with_a_fresh_code_and_its_tasks_take_disjoint_rows(workers, rows, used):
    code = net(32, 16, 4)
    made = Rotating([layer(16)], [rows], F4, {16: code}, 7, each_update=True)
    seen = []
    for tasks in used:
        starts = [made.row(worker) for worker in range(min(workers, tasks))]
        words = np.vstack([dense(made.codewords(start)[0], 16) for start in starts])
        gram = np.abs(words @ words.T)
        assert (gram - np.eye(len(gram)) <= 0.25 + 1e-6).all()  # distinct rows of one net: coherence 1/w
        if len(words) <= 16 - rows:
            np.testing.assert_allclose(words @ words.T, np.eye(len(words)), atol=1e-6)
        seen.append(words[0])
        made.stepped()
    assert all((first != later).any() for i, first in enumerate(seen) for later in seen[i + 1 :])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=120), st.sampled_from([1, 2, 4]))
def test_by_worker_each_worker_takes_all_rows(order: list[int], r: int) -> None:
    made, turn = Rotating([layer(16)], [r], F4, {16: net(16, 16, 4)}, 7, by_worker=True), 16 // r
    taken: dict[int, list[int]] = {}
    for worker in order:
        taken.setdefault(worker, []).append(made.row(worker))
        made.stepped()
    for worker, rows in taken.items():
        assert rows[0] == worker % turn * r
        for number, row in enumerate(rows):
            assert row // 16 == number // turn  # a new design each time round
        for first in range(0, len(rows), turn):
            words = np.vstack([dense(made.codewords(row)[0], 16) for row in rows[first : first + turn]])
            np.testing.assert_allclose(words @ words.T, np.eye(len(words)), atol=1e-6)


def test_in_async_mode_a_code_is_redrawn_when_its_rows_run_out() -> None:
    made = Rotating([layer(16)], [1], F4, {16: net(16, 16, 4)}, 7, each_update=False)
    rows = []
    for _ in range(32):
        rows.append(made.row(0))
        made.stepped()
    assert rows == list(range(32))


def test_layers_may_send_different_numbers_of_codewords_over_different_numbers_of_blocks() -> None:
    layers = [layer(8), layer(64), layer(16), WHOLE]
    rows = [2, 16, 5, 1]
    made = Rotating(layers, rows, F4, {8: net(8, 8, 4), 64: net(64, 64, 4), 16: net(16, 16, 2)}, 2)
    starts = [made.row(worker) for worker in range(12)]
    tasks = [made.codewords(start) for start in starts]
    assert [len(pair[0]) for pair in tasks[0]] == rows
    assert made.weights == [4, 4, 2, 1]
    for number, per_basis in ((0, 4), (1, 4), (2, 3)):
        k = layers[number].count
        for first in (0, 4, 8):  # a turn is as many tasks as use each code up at least once
            words = np.vstack([dense(task[number], k) for task in tasks[first : first + per_basis]])
            np.testing.assert_allclose(words @ words.T, np.eye(len(words)), atol=1e-6)


def test_every_block_occurs_equally_often_for_any_rows_per_task() -> None:
    made = Rotating([layer(16)], [3], F4, {16: net(16, 16, 4)}, 2)
    met = np.zeros(16)
    for task in range(15 * 20):
        met += (dense(made.codewords(3 * task)[0], 16) ** 2).sum(axis=0)
    assert met.min() > 0.9 * met.mean()


def test_codewords_do_not_change_while_their_task_is_in_flight() -> None:
    made = Rotating([layer(16)], [4], F4, {16: net(16, 16, 4)}, 2, each_update=True)
    pairs = []
    for _ in range(20):
        pairs.append(
            [
                (indices, values, indices.copy(), values.copy())
                for indices, values in made.codewords(made.row(0))
            ]
        )
        made.stepped()
    for words in pairs:
        for indices, values, old_indices, old_values in words:
            np.testing.assert_array_equal(indices, old_indices)
            np.testing.assert_array_equal(values, old_values)


def test_more_codewords_a_task_than_rows_are_refused() -> None:
    for kind, extra in ((Static, ()), (Rotating, (1,))):
        with pytest.raises(InputError, match=r"code\.rows_per_task: 9 .* 8 rows"):
            kind([layer(8)], [9], F4, {8: net(8, 8, 4)}, *extra)


@pytest.mark.parametrize("kind", [Assignment, WorkerSelected])
def test_row_numbers_count_tasks_where_workers_choose(kind: type) -> None:
    made = kind([layer(8), WHOLE], [2, 1], F4, *([[4, 1]] if kind is WorkerSelected else []))
    assert [made.row(worker) for worker in (5, 0, 5)] == [0, 2, 4]
    assert [pair[0].shape for pair in made.codewords(2)] == [(1, 1), (1, 1)]
    assert made.designs == {}


@pytest.mark.parametrize("rows", [1, 3, 4, 8])
def test_tasks_of_a_multiple_of_the_weight_have_whole_matrices(rows: int) -> None:
    code = net(40, 16, 4)  # two and a half bases
    order = group_by_support(code.indices, 16, rows)
    assert sorted(order.tolist()) == list(range(40))
    assert (np.sort(order.reshape(-1, 8)[:4].reshape(2, 16)) == np.arange(32).reshape(2, 16)).all()
    if rows % 4:
        assert (order == np.arange(40)).all()
    else:
        sets = code.indices[order][:32].reshape(8, 4, 4)
        assert (sets == sets[:, :1]).all()


def test_the_order_of_codewords_holds_after_each_redraw() -> None:
    made = Rotating([layer(16)], [8], F4, {16: net(16, 16, 4)}, 2)
    for _ in range(6):
        indices, values = made.codewords(made.row(0))[0]
        for some in (indices[:4], indices[4:]):
            assert (some == some[0]).all()
        dense = np.zeros((8, 16))
        np.put_along_axis(dense, indices, values, axis=1)
        np.testing.assert_allclose(dense @ dense.T, np.eye(8), atol=1e-6)
    assert made.reordered
    assert not Rotating([layer(16)], [1], F4, {16: net(16, 16, 4)}, 2).reordered
