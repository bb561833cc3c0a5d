"""Floating-point operations of a worker's task, counted as the kernels perform them.

A matrix product (a × b)(b × c) counts 2abc. Elementwise work counts one flop per addition or multiplication;
`POINTWISE` and `WireFormat.flops` are estimates for functions without such a count. Memory traffic is not
counted; it is absorbed by a rate fitted to measured times.
"""

from ..config import Config
from ..problems import Problem, whitening
from ..problems.matrix import Csr
from ..problems.partition import Blocks, Unit
from ..transport.layout import Layout

POINTWISE = 4  # an activation and its derivative, or a loss and its error, per unit and sample


def task_flops(config: Config, problem: Problem, layout: Layout, shard: int) -> int:
    """Return the flops of one task, from θ to the payload in wire format.

    With a batch of B samples, a layer of d_in + 1 inputs (the bias included) and d_out outputs, cut into k
    blocks of shape (b, m) along its small factor of p columns, r codewords of weight w a task:

    - forward 2·B·(d_in + 1)·d_out; errors for the layer below 2·B·d_in·d_out; `POINTWISE` per unit and sample
    - coded derivative 2·B·r·w·b to encode the small factor, then one product 2·B·(r·b)·m
    - where the worker needs the full gradient (error feedback or worker-selected codewords):
      2·B·p·m, then 4·r·w·b·m to subtract the projection, and the sums with the memory
    - an uncoded layer: 2·B·p·m
    - with `code.whiten`: that of each layer, see `problems.whitening.flops`; with `memory.lookahead`: 2 per
      element of θ
    - rounding to the wire format: `flops` per element; a replica of θ also does rank 0's decoding and steps

    With sparse inputs the first layer counts the average number of nonzeros of a row instead of d_in + 1
    inputs; if it is coded along the inputs, only the fraction w/k that a codeword covers.

    `shard` is the number of rows of a worker's shard, for full batches.
    """
    batch = config.problem.batch or shard
    if config.memory.has_residual or layout.worker_selected:
        return round(gradient_flops(config, problem, shard) + coding_flops(config, problem, layout))
    total = _passes(config, problem, batch)
    for number, (blocks, r, w) in enumerate(zip(problem.layers, layout.rows, layout.weights, strict=True)):
        inputs = _entries(problem, number)
        total += whitening.flops(config.code.whiten, blocks, batch, inputs, blocks.uncoded)
        if blocks.uncoded:
            total += 2.0 * batch * inputs * blocks.outputs + _penalty(config, 1, 1, blocks.length)
        else:
            total += _coded(blocks, batch, inputs, number == 0 and _sparse(problem), r, w)
            total += _penalty(config, r, w, blocks.elements)
    return round(total + message_flops(config, problem, layout))


def gradient_flops(config: Config, problem: Problem, shard: int) -> float:
    """Return the flops of the full gradient of a mini-batch."""
    batch = config.problem.batch or shard
    total = _passes(config, problem, batch)
    for number, blocks in enumerate(problem.layers):
        inputs = _entries(problem, number)
        total += 2.0 * batch * inputs * blocks.outputs + _penalty(config, 1, 1, blocks.length)
        total += whitening.flops(config.code.whiten, blocks, batch, inputs, True)
    return total


def passes_flops(config: Config, problem: Problem, shard: int) -> float:
    """Return the flops of a mini-batch's forward and backward pass, without the products of its gradient."""
    return _passes(config, problem, config.problem.batch or shard)


def coding_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops from a vector of θ's size, such as a gradient, to the payload in wire format."""
    units = zip(layout.units, layout.rows, layout.weights, strict=True)
    total = sum(_memory(config, unit, r, w) for unit, r, w in units) + message_flops(config, problem, layout)
    if not layout.exact:  # the rounding error is added to the memory
        total += _sent(layout) + _scatter(layout)
    return total


def owner_flops(config: Config, layout: Layout) -> float:
    """Return the flops by which the owner of a range averages its part of all payloads, and rounds the mean.

    Every worker also steps θ by the mean: `machine.update_s`.
    """
    workers, sent = config.workers.count, _sent(layout)
    units = zip(layout.units, layout.rows, layout.weights, layout.fields, strict=True)
    rounding = sum(
        unit.length * 2.0 + r * unit.elements * (4.0 * w + field.format.flops) for unit, r, w, field in units
    )
    return sent + _scatter(layout) + (rounding + sent + _scatter(layout)) / workers


def _passes(config: Config, problem: Problem, batch: int) -> float:
    """Count the forward pass, and the errors back to the first layer."""
    total = 2.0 * problem.size if config.problem.l2 else 0.0  # the penalty
    for number, blocks in enumerate(problem.layers):
        total += batch * blocks.outputs * (2.0 * _entries(problem, number) + POINTWISE)
        if number:
            total += 2.0 * batch * blocks.inputs * blocks.outputs
    return total


def message_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops of rounding the payload, and of a replica's updates between two tasks."""
    total = 0.0
    for field, r, unit in zip(layout.fields, layout.rows, layout.units, strict=True):
        exact = field.format.name == layout.dtype.name
        total += (1.0 if exact else field.format.flops) * r * unit.elements
    if config.downlink.relays:
        total += _replica(config, problem, layout)
    return total


def _sent(layout: Layout) -> float:
    """Count the elements of a payload."""
    return float(sum(r * unit.elements for r, unit in zip(layout.rows, layout.units, strict=True)))


def _sparse(problem: Problem) -> bool:
    return isinstance(problem.dataset.x, Csr)


def _entries(problem: Problem, number: int) -> float:
    """Count the inputs of a layer with the bias; for sparse data, the average number of nonzeros."""
    return float(problem.layers[number].inputs + 1) if number else problem.dataset.inputs_per_row


def _coded(blocks: Blocks, batch: int, inputs: float, sparse: bool, r: int, w: int) -> float:
    """Count the coded derivative of a layer: encode the small factor, then one product."""
    if sparse and blocks.axis == "input":  # each entry scaled by its coefficient
        return batch * inputs * r * min(1.0, w / blocks.count) * (1 + 2.0 * blocks.outputs)
    other = inputs if blocks.axis == "output" else blocks.width
    return 2.0 * batch * r * blocks.size * (w + other)


def _penalty(config: Config, r: int, w: int, elements: int) -> float:
    """Count adding l2 times a combination of blocks of θ to each of r payload rows."""
    return 2.0 * r * w * elements if config.problem.l2 else 0.0


def _memory(config: Config, unit: Unit, r: int, w: int) -> float:
    """Count the work of `memory.MemoryEncoder` on a unit of the gradient."""
    sums = 3 if config.memory.kind == "difference" else 1
    sums += 2 if config.memory.lookahead else 0
    total = unit.length * (1.0 + sums) + 4.0 * r * w * unit.elements  # finiteness check, sums, projection
    if config.code.family == "matched" and not unit.uncoded:
        # a power iteration: products with the matrix and its transpose, and r × r Gram matrices
        total += 4.0 * r * unit.length + 4.0 * r * r * unit.elements
    return total


def _scatter(layout: Layout) -> float:
    """Count adding a payload's blocks to an accumulator by their codewords."""
    units = zip(layout.units, layout.rows, layout.weights, strict=True)
    return sum(2.0 * r * w * unit.elements for unit, r, w in units)


def _replica(config: Config, problem: Problem, layout: Layout) -> float:
    """Count a replica's work between two tasks: about one payload of each worker, and one step of θ."""
    workers = config.workers.count
    payloads = config.update.typical_payloads(workers)
    step = 2.0 * problem.size + config.optimizer.flops(problem.layers)
    return workers * _scatter(layout) + step * workers / payloads
