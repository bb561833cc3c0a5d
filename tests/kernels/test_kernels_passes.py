"""Passes of operations, and rows of mini-batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdcode.kernels.passes import Call, Operation, Pass, Rows


def test_a_pass_runs_its_operations_in_order():
    said = []
    inner = Pass([Call(said.append, "b"), Call(said.extend, ["c", "d"])])
    whole = Pass([Call(said.append, "a"), inner, Pass([])])
    whole()
    whole()
    assert said == 2 * ["a", "b", "c", "d"]


def test_an_error_ends_a_pass():
    said = []
    with pytest.raises(ZeroDivisionError):
        Pass([Call(said.append, 1), Call(divmod, 1, 0), Call(said.append, 2)])()
    assert said == [1]
    with pytest.raises(TypeError, match="is no operation"):
        Pass([print])
    with pytest.raises(NotImplementedError):
        Operation()()


@given(rows=st.integers(1, 20), batch=st.integers(1, 9), width=st.integers(1, 5), data=st.data())
def test_rows_are_those_of_take(rows, batch, width, data):
    step = data.draw(st.sampled_from([1, 2, -1]))
    x = (
        np.random.default_rng(rows)
        .standard_normal((2 * rows, width))
        .astype(data.draw(st.sampled_from(["f4", "f8"])))
    )
    x, y = x[::step][:rows], np.arange(rows, dtype="i4")
    x.flags.writeable = False
    targets = np.full((batch, width), 7, x.dtype), np.full(batch, 7, "i4")
    copies = Rows([(x, targets[0]), (y, targets[1])])
    for _ in range(2):
        indices = np.array(
            data.draw(st.lists(st.integers(0, rows - 1), min_size=batch, max_size=batch)), "i8"
        )
        copies.take(indices)
        assert targets[0].tobytes() == x[indices].tobytes()
        assert targets[1].tobytes() == y[indices].tobytes()


def test_rows_refuse_what_does_not_fit():
    x, out = np.ones((5, 3)), np.zeros((2, 3))
    copies = Rows([(x, out)])
    for bad in (5, -1, 1 << 40):
        with pytest.raises(ValueError, match=f"row {bad} is none of 5"):
            copies.take(np.array([0, bad]))
    assert not out.any()
    for indices in (np.zeros(3, "i8"), np.zeros(2, "i4"), [0, 1], None):
        with pytest.raises(ValueError, match="a batch of 2 rows needs 2 indices"):
            copies.take(indices)
    fixed = np.zeros((2, 3))
    fixed.flags.writeable = False
    for pair in (
        (x, np.zeros((2, 4))),
        (x, np.zeros((2, 3), "f4")),
        (x[:, ::2], np.zeros((2, 2))),
        (x, fixed),
    ):
        with pytest.raises(ValueError, match="have equal rows"):
            Rows([pair])
    with pytest.raises(ValueError, match="must have as many rows"):
        Rows([(x, out), (np.zeros(4, "i4"), np.zeros(2, "i4"))])
