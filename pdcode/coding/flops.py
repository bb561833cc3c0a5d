"""Floating-point operations of a worker's task, counted as the kernels perform them.

The unit is a flop of a gradient: other work counts as many as take its time. A matrix product (a × b)(b × c)
counts 2abc. Elementwise work counts `ELEMENTWISE` for each addition or multiplication, as it is bound by
memory; `WireFormat.flops` is an estimate of functions without such a count. `problems.counts` has the counts
of gradients. ``python -m benchmarks charges`` compares the counts with times.
"""

from ..config import Config, DesignedTable
from ..config.interfaces import AVERAGE_FLOPS
from ..problems import Problem
from ..problems.partition import Unit
from ..transport.layout import Layout

ELEMENTWISE = 4.0  # measured time of an operation, in flops of the gradient of 784-256-10 by 32 samples
# Time of a step of single elements of θ, and of blocks that were added to just before, as multiples of the
# time of as many elements in a step of all.
SCATTERED, CACHED = 8.0, 0.3
SUMS = 4.0  # elementwise operations by which an element of a sum modulo 2^bits is read


def task_flops(config: Config, problem: Problem, layout: Layout, shard: int) -> int:
    """Return the flops of one task, from θ to the payload in wire format.

    - the gradient, or without it the coded derivatives: `Problem.gradient_flops` and `coded_flops`
    - where the worker needs the full gradient (error feedback or worker-selected codewords), with codewords
      of r rows of weight w: 4·r·w·b·m to subtract the projection, and the sums with the memory
    - with `memory.lookahead`: 2 per element of θ; 4 where steps have a length of their own
    - rounding to the wire format: `WireFormat.flops` per element
    - a replica of θ: rank 0's decoding and steps

    `shard` is the number of rows of a worker's shard, for full batches.
    """
    if config.memory.has_residual or layout.worker_selected:
        return round(gradient_flops(config, problem, shard) + coding_flops(config, problem, layout))
    batch, whiten = config.problem.batch or shard, config.code.whitening
    coded = problem.coded_flops(batch, whiten, layout.rows, layout.weights)
    return round(coded + message_flops(config, problem, layout))


def gradient_flops(config: Config, problem: Problem, shard: int) -> float:
    """Return the flops of the full gradient of a mini-batch."""
    return problem.gradient_flops(config.problem.batch or shard, config.code.whitening)


def passes_flops(config: Config, problem: Problem, shard: int) -> float:
    """Return the flops of a mini-batch up to the point where parts of its gradient can be encoded."""
    return problem.passes_flops(config.problem.batch or shard, config.code.whitening)


def coding_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops from a vector of θ's size, such as a gradient, to the payload in wire format."""
    units = zip(layout.units, layout.rows, layout.weights, strict=True)
    total = sum(_memory(config, unit, r, w) for unit, r, w in units)
    if not layout.exact:  # the rounding error is added to the memory
        total += ELEMENTWISE * _sent(layout) + _scatter(layout)
    return total + message_flops(config, problem, layout)


def owner_flops(config: Config, layout: Layout) -> float:
    """Return the flops by which the owner of a range averages its part of all payloads, and rounds the mean.

    Every worker also steps θ by the mean: `machine.update_s`.
    """
    sent = _sent(layout)
    units = zip(layout.units, layout.rows, layout.weights, layout.fields, strict=True)
    rounding = sum(
        unit.length * 2.0 + r * unit.elements * (4.0 * w + field.format.flops) for unit, r, w, field in units
    )
    return ELEMENTWISE * (sent + _scatter(layout) + (rounding + sent + _scatter(layout)) / config.owners)


def step_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops of a step of θ; plain descent moves only the payloads' blocks."""
    whole = config.optimizer.flops(problem.layers)
    if layout.blocks is not None:  # integers to sums, and their checks
        return whole + ELEMENTWISE * SUMS * _sent(layout)
    if not _descends(config):
        return whole
    moved = config.update.typical_payloads(config.workers.count) * _scatter(layout) / 2 / problem.size
    if moved >= 1:
        return whole
    single = min(unit.elements for unit in layout.units) == 1
    return whole * min(1.0, moved * (SCATTERED if single else CACHED))


def average_flops(config: Config, problem: Problem) -> float:
    """Return the flops by which rank 0 averages θ after a step, in the mean; 0 where workers step."""
    if not config.optimizer.average or config.sums_all:
        return 0.0
    return AVERAGE_FLOPS * problem.size / (config.workers.count if config.update.asynchronous else 1)


def message_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops of rounding the payload, and of a replica's updates between two tasks."""
    total = 0.0
    for field, r, unit in zip(layout.fields, layout.rows, layout.units, strict=True):
        exact = field.format.name == layout.dtype.name and layout.blocks is None
        total += ELEMENTWISE * (1.0 if exact else field.format.flops) * r * unit.elements
    if config.downlink.relays:
        total += _replica(config, problem, layout)
    return total


def _sent(layout: Layout) -> float:
    """Count the elements of a payload."""
    return float(sum(r * unit.elements for r, unit in zip(layout.rows, layout.units, strict=True)))


def _memory(config: Config, unit: Unit, r: int, w: int) -> float:
    """Count the work of `memory.MemoryEncoder` on a unit of the gradient."""
    sums = 3 if config.memory.kind == "difference" else 1
    if config.memory.lookahead:
        sums += 2 if config.optimizer.linear else 4  # with norms
    total = ELEMENTWISE * unit.length * (1.0 + sums)  # finiteness check, sums
    total += 4.0 * r * w * unit.elements  # projection, block by block in the cache
    if config.code.family == "matched" and not unit.uncoded:
        # a power iteration: products with the matrix and its transpose, and r × r Gram matrices
        total += 4.0 * r * unit.length + 4.0 * r * r * unit.elements
    return total


def _scatter(layout: Layout, grouped: bool = False) -> float:
    """Count adding a payload's blocks to an accumulator by their codewords.

    `grouped`: codewords of one Hadamard matrix of order 4 follow each other, and `fold.decode` adds them up
    once for all of their columns, in 1.2 of the time of weight 1.
    """
    units = zip(layout.units, layout.rows, layout.weights, strict=True)
    return sum(
        r * unit.elements * (2.4 if grouped and w == 4 and r % 4 == 0 else 2.0 * w) for unit, r, w in units
    )


def _replica(config: Config, problem: Problem, layout: Layout) -> float:
    """Count a replica's work between two tasks: about one payload of each worker, and one step of θ."""
    workers = config.workers.count
    payloads = config.update.typical_payloads(workers)
    one_pass = _descends(config) and config.update.asynchronous  # a payload and its step
    step = 0.0 if one_pass else step_flops(config, problem, layout)
    code = config.code
    nets = isinstance(code, DesignedTable) and code.family in ("net", "auto") and code.rotate
    grouped = nets and config.update.asynchronous and layout.rows_have_scales
    return ELEMENTWISE * workers * _scatter(layout, grouped) + step * workers / payloads


def _descends(config: Config) -> bool:
    """Return whether steps are plain gradient descent."""
    optimizer = config.optimizer
    more = optimizer.momentum or optimizer.decays or optimizer.clip is not None
    return optimizer.linear and not more and optimizer.proximal is None
