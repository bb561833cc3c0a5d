"""Construction of codes, assignments, decoders and selectors from a configuration."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np

from ... import codes
from ...codes import Code, registry
from ...codes.design import refuse_arguments
from ...coding import proximals
from ...coding.memory import CodewordSelector
from ...config import Config, DesignedTable, kinds
from ...decoders import Context, Decoder
from ...problems import Problem
from ...transport.units import Unit, per_layer, task_rows
from ...util.errors import InputError, expected
from .assignments import Assignment, ByUpdate, Rotating, Static
from .saved import FileTable


def wires_of(config: Config, layers: Sequence[Unit]) -> list[str]:
    """Return the wire format of each layer's payload."""
    formats = per_layer("wire.dtype", config.wire.dtype, len(layers))
    return [wire or config.problem.dtype for wire in formats]


def initial_theta(config: Config, problem: Problem) -> np.ndarray:
    """Draw the θ from which the descent starts, and move it into the penalty's domain."""
    theta = problem.initial(config.seed)
    penalty = proximals.penalty_of(config.optimizer.proximal, problem)
    if penalty is not None and problem.drawn:
        penalty.apply(theta, 0.0)
    return theta


def gradient_weight(config: Config, problem: Problem, rows: int) -> float:
    """Return the weight of a worker's gradient that makes the mean over workers the mean over `rows` rows."""
    return config.workers.count * problem.rows / rows


def rows_of(config: Config, layers: Sequence[Unit]) -> list[int]:
    """Return the codewords per task, r, of each layer."""
    table = config.code
    if table.share is not None and table.rows_per_task is not None:
        raise InputError(f"code.share: {table.share} is another form of code.rows_per_task; give one of them")
    counts: Any = table.rows_per_task or 1
    if table.share is not None:
        counts = [max(1, ceil(table.share * layer.count - 1e-9)) for layer in layers]
    rows = task_rows(layers, counts)
    for layer, r in zip(layers, rows, strict=True):
        if r > layer.count:
            raise InputError(
                f"code.rows_per_task: {r} codewords are more than the {layer.count} blocks of a layer; "
                "blocks = 1 sends it uncoded"
            )
    return rows


def weights_of(config: Config, layers: Sequence[Unit], default: int | None) -> list[int | None]:
    """Return the codeword weight w of each layer: configured or default, at most the number of blocks."""
    configured = per_layer("code.weight", getattr(config.code, "weight", None), len(layers))
    weights: list[int | None] = []
    for layer, weight in zip(layers, configured, strict=True):
        w = default if weight is None else int(weight)
        weights.append(1 if layer.uncoded else None if w is None else min(w, layer.count) if default else w)
    return weights


def make_assignment(config: Config, layers: Sequence[Unit], workers: int) -> Assignment:
    """Design the codes that the layers need, and return the assignment of their rows to n workers."""
    table, dtype, rows = config.code, np.dtype(config.problem.dtype), rows_of(config, layers)
    limits = weights_of(config, layers, table.default_weight)
    if table.adapts:
        if not table.worker_selected:
            _one_weight(layers, limits)
        adaptive: Assignment = table.make(config, layers, rows, limits, dtype)
        return adaptive
    assert isinstance(table, DesignedTable | FileTable)
    designs: dict[int, Code] = {}
    weights = _one_weight(layers, limits)
    needed: dict[int, int] = {}
    for layer, r in zip(layers, rows, strict=True):
        if not layer.uncoded:
            needed[layer.count] = max(needed.get(layer.count, 0), r)
    # Payloads that add up have the same codewords, which successive updates take in turn.
    each_update = not (config.update.asynchronous or config.reduce.adds)
    if isinstance(table, FileTable):
        designs = table.designs(config, needed)
    else:
        for k in sorted(needed):
            designs[k] = _design(config, k, weights[k], needed[k], workers, each_update)
    if table.rotate:
        # Taking rows in turn improves descents with look-ahead, and makes others unstable.
        ahead = bool(config.memory.lookahead)
        by_worker = ahead and not each_update
        apart = config.problem.propagates_blocks
        made: Static = Rotating(layers, rows, dtype, designs, config.seed, each_update, by_worker, apart)
    else:
        made = Static(layers, rows, dtype, designs)
    one_each = config.reduction.owners or not (config.reduce.bits or (config.reduce.adds and needed))
    return made if one_each else ByUpdate(made)


def _one_weight(layers: Sequence[Unit], weights: Sequence[int | None]) -> dict[int, int | None]:
    """Return the codeword weight for each block count; layers with equally many blocks share a code."""
    shared: dict[int, int | None] = {}
    for layer, w in zip(layers, weights, strict=True):
        if not layer.uncoded and shared.setdefault(layer.count, w) != w:
            raise InputError(
                f"code.weight: layers of {layer.count} blocks share a code of one weight, "
                f"not {shared[layer.count]} and {w}"
            )
    return shared


def _design(config: Config, k: int, weight: int | None, r: int, workers: int, each_update: bool) -> Code:
    """Design the code for layers of k blocks."""
    table = config.code
    assert isinstance(table, DesignedTable)
    if table.family != "auto" and registry.find(table.family) is None:
        known = [*kinds.names("families"), "auto", *kinds.names("codes")]
        raise InputError(f"code.family: {expected(table.family, dict.fromkeys(known))}")
    if weight is not None and weight > k and table.family != "auto":
        raise InputError(f"code.weight: {weight} is above the number of blocks, {k}")
    refuse_arguments(table.options, "code.options.")
    sizes = [table.rows or workers * r]
    # Rows for all tasks of an update, if such a code exists; else a single basis. Where payloads add up
    # successive tasks have all rows of a basis, the last task some of them again.
    if table.rows is None and table.rotate:
        one = codes.fitting_rows(table.family, r, k)
        sizes = [codes.fitting_rows(table.family, workers * r, k), one] if each_update else [one]
        sizes = [-(-one // r) * r, one] if config.reduce.adds else sizes
    for last, rows in enumerate(sizes, 1 - len(sizes)):
        try:
            return codes.design(
                table.family, workers=rows, blocks=k, weight=weight, seed=config.seed, **table.options
            )
        except InputError as error:
            if last == 0:
                raise InputError(
                    f"code.family: no '{table.family}' of {rows} rows over {k} blocks: {error}"
                ) from None
    raise AssertionError("no size was tried")


def make_decoders(
    config: Config,
    layers: Sequence[Unit],
    wires: Sequence[str],
    designs: Mapping[int, Code] | None = None,
    worker_selected: bool = False,
) -> list[Decoder]:
    """Build the configured decoder for each unit, of a wire format each.

    Decoder ``adjoint`` computes its captured fraction from `designs`, the codes by number of blocks.
    """
    workers = config.workers.count
    # With error feedback or worker-selected codewords, payloads are averaged, not scaled to be unbiased;
    # likewise where workers add up the payloads of all. Owners of ranges send their mean.
    mean_of = workers if config.memory.has_residual or worker_selected or config.reduce.adds else None
    mean_of = 1 if config.reduction.owners else mean_of
    decoders = []
    for layer, wire in zip(layers, wires, strict=True):
        design = (designs or {}).get(layer.count)
        rows = None if design is None else len(design)
        size = layer.count, layer.shape, config.problem.dtype, layer.length
        decoders.append(config.decoder.make(Context(*size, workers, mean_of, rows, wire)))
    return decoders


def make_selectors(config: Config, layers: Sequence[Unit], worker: int) -> list[CodewordSelector | None]:
    """Build a worker's codeword selector for each layer; None for an uncoded layer."""
    from ...codes.constructions.matched import MatchedSelector

    rows, limits = rows_of(config, layers), weights_of(config, layers, config.code.default_weight)
    dtype = np.dtype(config.problem.dtype)
    return [
        None
        if layer.uncoded
        else MatchedSelector(
            layer.count, layer.elements, layer.length, r, w or 1, dtype, config.seed + worker
        )
        for layer, r, w in zip(layers, rows, limits, strict=True)
    ]
