"""Floating-point operations of a worker's task, counted as the kernels perform them.

The unit is a flop of a gradient: other work counts as many as take its time. A matrix product (a × b)(b × c)
counts 2abc. Passes over arrays count their `util.touches`, and `ELEMENTWISE` for each operation that takes
time beside them, such as `WireFormat.flops`. `problems.counts` has the counts of gradients.
``python -m benchmarks charges`` compares the counts with times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.interfaces import DesignedTable
from ..fitted import ELEMENTWISE, GROUPED, READING, SCATTERED, SUMS
from ..transport.layout import Layout, PayloadField
from ..util.touches import flops_per_touch

if TYPE_CHECKING:
    from ..config import Config
    from ..problems import Problem


def task_flops(config: Config, problem: Problem, layout: Layout, shard: int) -> int:
    """Return the flops of one task, from θ to the payload in wire format.

    - the gradient, or without it the coded derivatives: `Problem.gradient_flops` and `coded_flops`
    - where the worker needs the full gradient (error feedback or worker-selected codewords): `coding_flops`
    - rounding to the wire format
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


def touched(problem: Problem, times: float) -> float:
    """Return the flops of touching each element of an array of θ's size so many times."""
    return times * flops_per_touch(problem.size) * problem.size


def coding_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops from a vector of θ's size, such as a gradient, to the payload in wire format."""
    return _memory(config, problem, layout) + message_flops(config, problem, layout)


def payload_flops(problem: Problem, layout: Layout, grouped: bool = False, one_pass: bool = False) -> float:
    """Return the flops of reading a payload from a message, and of adding it to an array.

    `grouped`: codewords of one Hadamard matrix of order 4 follow each other; `one_pass`: the payload does not
    leave the cache in between.
    """
    touches = 0.0
    for r, w, field, unit in zip(layout.rows, layout.weights, layout.fields, layout.units, strict=True):
        added = w * (GROUPED if grouped and w == 4 and r % 4 == 0 else 1.0)
        read = 1.0 if one_pass else 2.0 + _is_rounded(field, layout)
        touches += r * unit.elements * (read + added) * (SCATTERED if unit.elements == 1 else 1.0)
    return flops_per_touch(problem.size) * touches + READING * _rounding(layout)


def owner_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops by which the owner of a range averages its part of all payloads, and rounds the mean.

    Every worker also steps θ by the mean: `step_flops`.
    """
    units = sum(unit.length for unit in layout.units)
    averaging = flops_per_touch(problem.size) * units + _memory(config, problem, layout)
    whole = averaging + rounding_flops(problem, layout)
    return payload_flops(problem, layout) + whole / config.reduction.owners


def step_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops of a step of θ; plain descent moves only the payloads' blocks.

    Workers that add up payloads read the sum before it.
    """
    whole = config.optimizer.flops(problem.layers)
    if layout.blocks is not None:  # integers to sums, and their checks
        return whole + ELEMENTWISE * SUMS * _sent(layout)
    if config.reduce.summed:
        return whole + payload_flops(problem, layout)
    if not _descends(config):
        return whole
    moved = sum(
        2.0 * r * w * unit.elements * (SCATTERED if unit.elements == 1 else 1.0)
        for unit, r, w in zip(layout.units, layout.rows, layout.weights, strict=True)
    )
    moved *= config.update.typical_payloads(config.workers.count)
    return min(whole, flops_per_touch(problem.size) * moved)


def average_flops(config: Config, problem: Problem) -> float:
    """Return the flops by which rank 0 averages θ after a step, in the mean; 0 where workers step."""
    if not config.optimizer.average or config.reduction.workers_step:
        return 0.0
    return touched(problem, 2.0) / (config.workers.count if config.update.asynchronous else 1)


def message_flops(config: Config, problem: Problem, layout: Layout) -> float:
    """Return the flops of rounding the payload, and of a replica's updates between two tasks."""
    return rounding_flops(problem, layout) + _replica(config, problem, layout)


def rounding_flops(problem: Problem, layout: Layout) -> float:
    """Return the flops of rounding the payload, or of checking it where it is not rounded."""
    touches = sum(
        r * unit.elements * (1.0 + _is_rounded(field, layout))
        for field, r, unit in zip(layout.fields, layout.rows, layout.units, strict=True)
    )
    return flops_per_touch(problem.size) * touches + _rounding(layout)


def _is_rounded(field: PayloadField, layout: Layout) -> bool:
    """Return whether a part of a payload is rounded."""
    return field.format.name != layout.dtype.name or layout.blocks is not None


def _rounding(layout: Layout) -> float:
    """Count the operations of rounding a payload, beside touching it."""
    return ELEMENTWISE * sum(
        field.format.flops * r * unit.elements
        for field, r, unit in zip(layout.fields, layout.rows, layout.units, strict=True)
        if _is_rounded(field, layout)
    )


def _sent(layout: Layout) -> float:
    """Count the elements of a payload."""
    return float(sum(r * unit.elements for r, unit in zip(layout.rows, layout.units, strict=True)))


def _memory(config: Config, problem: Problem, layout: Layout) -> float:
    """Count the work of `memory.MemoryEncoder`."""
    kind, remembers, total = config.memory.kind, config.memory.has_residual, 0.0
    copies = not remembers and all(unit.uncoded for unit in layout.units)
    whole = 1.0 + {"difference": 6.0}.get(kind, 2.0 if remembers or copies else 3.0)  # finiteness check, sums
    if remembers:
        whole += config.memory.keep < 1 if kind == "worker" else 0
        if config.memory.lookahead:
            whole += 3.0 if config.optimizer.linear else 6.0  # with norms
    fused = kind == "worker" and not layout.worker_selected and layout.rows_have_scales
    # Rounding errors are added to the memory; in one pass the payload does not leave the cache.
    errors = 0.0 if layout.exact or not remembers else 5.0
    for unit, r, w in zip(layout.units, layout.rows, layout.weights, strict=True):
        touches = whole * unit.length
        if not copies:
            touches += r * unit.elements * (w - 1.0 if fused else 1.0 + w + errors + (w if errors else 0.0))
        total += flops_per_touch(problem.size) * touches
        if config.code.family == "matched" and not unit.uncoded:
            # a power iteration: products with the matrix and its transpose, and r × r Gram matrices
            total += 4.0 * r * unit.length + 4.0 * r * r * unit.elements
    return total


def _replica(config: Config, problem: Problem, layout: Layout) -> float:
    """Count a replica's work between two tasks: about one payload of each worker, and one step of θ."""
    if config.reduction.by_members:  # a mean in place of the payloads
        return step_flops(config, problem, layout)
    if not config.downlink.relays:
        return 0.0
    workers = config.workers.count
    payloads = config.update.typical_payloads(workers)
    one_pass = _descends(config) and config.update.asynchronous  # a payload and its step
    step = 0.0 if one_pass else step_flops(config, problem, layout)
    code = config.code
    nets = isinstance(code, DesignedTable) and code.family in ("net", "auto") and code.rotate
    grouped = nets and config.update.asynchronous and layout.rows_have_scales
    fused = one_pass and layout.rows_have_scales
    return workers * payload_flops(problem, layout, grouped, fused) + step * workers / payloads


def _descends(config: Config) -> bool:
    """Return whether steps are plain gradient descent."""
    optimizer = config.optimizer
    more = optimizer.momentum or optimizer.decays or optimizer.clip is not None
    return optimizer.linear and not more and optimizer.proximal is None
