"""Blocks and the layout of payloads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import refused

from pdcode.problems import partition, payload_layout, sparse_codewords, task_rows
from pdcode.util.errors import InputError

sizes = st.integers(1, 30)


@given(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=4), sizes, st.sampled_from(["output", "input"]))
def test_blocks_are_consecutive_rows_padded_never_dropped(shapes, count, axis):
    layers = partition(shapes, axis, count)
    theta = np.arange(1.0, 1 + sum(outputs * (inputs + 1) for outputs, inputs in shapes))
    end = 0
    for layer, (outputs, inputs) in zip(layers, shapes, strict=True):
        assert layer.offset == end
        end += layer.length
        assert (layer.outputs, layer.inputs) == (outputs, inputs)
        assert layer.size == -(-layer.rows // count)
        blocks = layer.split(theta)
        assert blocks.shape == (count, *layer.shape)
        assert blocks[0].size == layer.elements
        padded = blocks.reshape(-1, layer.width)
        np.testing.assert_array_equal(padded[: layer.rows], layer.matrix(theta))
        assert not padded[layer.rows :].any()
        assert layer.weights(theta).shape == (outputs, inputs + 1)
        assert np.shares_memory(layer.weights(theta), theta)
    assert end == len(theta)


@given(sizes, sizes, sizes)
def test_auto_takes_the_axis_with_the_smaller_payload(outputs, inputs, count):
    by = {axis: partition([(outputs, inputs)], axis, count)[0] for axis in ("auto", "output", "input")}
    assert by["auto"].elements == min(by["output"].elements, by["input"].elements)
    if by["output"].elements == by["input"].elements:
        assert by["auto"].axis == "output"


@given(
    st.lists(st.tuples(sizes, sizes), min_size=1, max_size=4),
    st.integers(1, 4),
    st.sampled_from(["f4", "f8"]),
)
def test_layers_of_a_payload_start_on_cache_lines(shapes, rows, dtype):
    layers = partition(shapes, blocks=[1 + number % 3 for number in range(len(shapes))])
    each = [rows + number % 2 for number in range(len(shapes))]
    offsets, size = payload_layout(layers, each, dtype)
    line = 64 // np.dtype(dtype).itemsize
    for layer, r, start, stop in zip(layers, each, offsets, [*offsets[1:], size], strict=True):
        assert start % line == 0
        assert 0 <= stop - start - r * layer.elements < line
    assert size % line == 0


@given(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=4))
def test_units_are_a_block_a_hidden_unit_with_an_uncoded_output_layer(shapes):
    layers = partition(shapes, "auto", "units")
    if len(shapes) == 1:
        (layer,) = layers
        assert (layer.axis, layer.count, layer.size) == ("input", shapes[0][1] + 1, 1)
    else:
        *hidden, last = layers
        assert last.uncoded
        for layer, (outputs, inputs) in zip(hidden, shapes, strict=False):
            assert (layer.axis, layer.count, layer.shape) == ("output", outputs, (1, inputs + 1))


def test_units_go_by_an_axis_that_is_given():
    layers = partition([(6, 4), (3, 6)], ["input", "auto"], "units")
    assert [(layer.axis, layer.count) for layer in layers] == [("input", 6), ("output", 1)]


def test_codewords_per_task_are_one_number_or_one_a_layer_and_one_if_uncoded():
    layers = partition([(6, 4), (8, 6), (3, 8)], "output", [3, 4, 1])
    assert task_rows(layers, 2) == [2, 2, 1]
    assert task_rows(layers, [3, 2, 7]) == [3, 2, 1]
    with pytest.raises(
        InputError, match=r"code\.rows_per_task: \[3, 2\] has 2 entries, but there are 3 layers"
    ):
        task_rows(layers, [3, 2])


def test_sparse_codewords_are_padded_with_zeros():
    indices, values = sparse_codewords([[0, 0, -2.0], [1, 0, 3], [0, 0, 0]], "float32")
    assert indices.dtype == np.int32
    assert values.dtype == np.float32
    np.testing.assert_array_equal(indices, [[2, 0], [0, 2], [0, 0]])
    np.testing.assert_array_equal(values, [[-2, 0], [1, 3], [0, 0]])


@pytest.mark.parametrize(
    ("axis", "blocks", "message"),
    [
        ("auto", [2], "code.blocks: [2] has 1 entries, but there are 2 layers"),
        (["auto"], 2, "problem.axis: ['auto'] has 1 entries"),
        ("auto", 0, "code.blocks: 0 is not a positive whole number"),
        ("auto", [1, 2.5], "code.blocks: 2.5 is not"),
        ("sideways", 1, "problem.axis: expected one of auto, output, input"),
    ],
)
def test_bad_partitions_are_refused(axis, blocks, message):
    with refused(message):
        partition([(3, 4), (2, 3)], axis, blocks)
