"""Floating-point operations of a worker's task, counted as the kernels do them.

A product of matrices (a × b)(b × c) counts 2abc. Work on single elements counts a flop an addition or
multiplication; `POINTWISE` and `ROUND` stand for what has no such count. Memory traffic is not counted: a
rate that is fitted to measured times takes it in.
"""

from __future__ import annotations

from ..config.tables import Config
from ..problems import Problem
from ..problems.matrix import Csr
from ..problems.partition import Blocks, Unit
from ..transport.layout import Layout

POINTWISE = 4  # of an activation and its derivative, or of a loss and its error, for a unit and a sample
ROUND = 8  # of rounding an element of a payload: scaling, a random number, and the conversion


def task_flops(config: Config, problem: Problem, layout: Layout, shard: int | None = None) -> int:
    """Flops of one task of a worker, from θ to the payload as it travels.

    With a batch of B samples, a layer of d_in + 1 inputs (the bias included) and d_out outputs, cut into k
    blocks of shape (b, m) along its small factor of p columns, r codewords of weight w a task:

    - forward 2·B·(d_in + 1)·d_out; errors for the layer below 2·B·d_in·d_out; `POINTWISE` a unit and sample
    - coded derivative 2·B·r·w·b to encode the small factor, then one product 2·B·(r·b)·m
    - where the worker needs the whole gradient (memory at the worker, or codewords that it chooses):
      2·B·p·m, then 4·r·w·b·m to take the codewords out of what is to be sent, and the sums with the memory
    - a layer that is sent whole: 2·B·p·m
    - rounding to the wire `ROUND` an element; a replica of θ does rank 0's decoding and steps besides

    The first layer of sparse inputs counts the entries that a row has on average in place of its d_in + 1
    inputs, and coded along them, only the w/k of these that a codeword holds.

    Parameters
    ----------
    config : Config
    problem : Problem
        For the layers and the density of the inputs.
    layout : Layout
        For rows and weights of the codewords, and the format of payloads.
    shard : int, optional
        Rows of a worker's shard, which count where batches are all of it. If not given, the problem's rows
        are taken as those of all workers.

    Returns
    -------
    int
    """
    batch = _batch(config, problem, shard)
    if config.memory.keeps or layout.chosen:
        return round(gradient_flops(config, problem, shard) + coding_flops(config, problem, layout))
    total = _passes(config, problem, batch)
    for number, (blocks, r, w) in enumerate(zip(problem.layers, layout.rows, layout.weights, strict=True)):
        entries = _entries(problem, number)
        if blocks.whole:
            total += 2.0 * batch * entries * blocks.outputs + _penalty(config, 1, 1, blocks.length)
        else:
            total += _coded(blocks, batch, entries, number == 0 and _sparse(problem), r, w)
            total += _penalty(config, r, w, blocks.elements)
    return round(total + _message(config, problem, layout))


def gradient_flops(config: Config, problem: Problem, shard: int | None = None) -> float:
    """Flops of the whole gradient of a mini-batch."""
    batch = _batch(config, problem, shard)
    products = sum(
        2.0 * batch * _entries(problem, number) * blocks.outputs + _penalty(config, 1, 1, blocks.length)
        for number, blocks in enumerate(problem.layers)
    )
    return _passes(config, problem, batch) + products


def coding_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Flops from a vector of θ's size, such as a gradient, to the payload as it travels."""
    units = zip(layout.units, layout.rows, layout.weights, strict=True)
    total = sum(_memory(config, unit, r, w) for unit, r, w in units) + _message(config, problem, layout)
    if not layout.exact:  # what is lost by rounding is put back into the memory
        total += _sent(layout) + _scatter(layout)
    return total


def _batch(config: Config, problem: Problem, shard: int | None) -> int:
    return config.problem.batch or shard or max(1, problem.rows // config.workers.count)


def _passes(config: Config, problem: Problem, batch: int) -> float:
    """Forward, and errors back to the first layer."""
    total = 2.0 * problem.size if config.problem.l2 else 0.0  # ½·l2·‖θ‖²
    for number, blocks in enumerate(problem.layers):
        total += batch * blocks.outputs * (2.0 * _entries(problem, number) + POINTWISE)
        if number:
            total += 2.0 * batch * blocks.inputs * blocks.outputs
    return total


def _message(config: Config, problem: Problem, layout: Layout) -> float:
    """Rounding the payload, and what a replica does between two tasks."""
    total = _sent(layout) * (1 if layout.exact else ROUND)
    if config.downlink.kind == "codewords":
        total += _replica(config, problem, layout)
    return total


def _sent(layout: Layout) -> float:
    """Elements of a payload."""
    return float(sum(r * unit.elements for r, unit in zip(layout.rows, layout.units, strict=True)))


def _sparse(problem: Problem) -> bool:
    return isinstance(problem.dataset.x, Csr)


def _entries(problem: Problem, number: int) -> float:
    """Inputs of a layer, the bias included; of sparse data as many as a row has on average."""
    x = problem.dataset.x
    if number == 0 and isinstance(x, Csr):
        return len(x.data) / len(x)
    return float(problem.layers[number].inputs + 1)


def _coded(blocks: Blocks, batch: int, entries: float, sparse: bool, r: int, w: int) -> float:
    """The coded derivative of a layer: encode the small factor, then one product."""
    if sparse and blocks.axis == "input":  # entry by entry, each multiplied by its coefficient
        return batch * entries * r * min(1.0, w / blocks.count) * (1 + 2.0 * blocks.outputs)
    other = entries if blocks.axis == "output" else blocks.width
    return 2.0 * batch * r * blocks.size * (w + other)


def _penalty(config: Config, r: int, w: int, elements: int) -> float:
    """l2 times a combination of blocks of θ, added to each of r of them."""
    return 2.0 * r * w * elements if config.problem.l2 else 0.0


def _memory(config: Config, unit: Unit, r: int, w: int) -> float:
    """What `memory.MemoryEncoder` does with a unit's part of the gradient."""
    sums = 3 if config.memory.kind == "difference" else 1
    total = unit.length * (1.0 + sums) + 4.0 * r * w * unit.elements  # is it finite; sum up; take out
    if config.code.family == "matched" and not unit.whole:
        # a power step: there and back, and r × r products of what is kept
        total += 4.0 * r * unit.length + 4.0 * r * r * unit.elements
    return total


def _scatter(layout: Layout) -> float:
    """Adding a payload's blocks up, by their codewords."""
    parts = zip(layout.units, layout.rows, layout.weights, strict=True)
    return sum(2.0 * r * w * unit.elements for unit, r, w in parts)


def _replica(config: Config, problem: Problem, layout: Layout) -> float:
    """Between two tasks of a worker, about one payload of each worker has arrived, and θ was stepped."""
    workers = config.workers.count
    steps = {"async": workers, "first": workers / (config.update.count or max(1, 3 * workers // 4))}
    return workers * _scatter(layout) + 2.0 * problem.size * steps.get(config.update.mode, 1.0)
