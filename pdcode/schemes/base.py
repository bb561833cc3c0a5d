"""From the tables of a configuration to the codes of its layers, who gets which rows, and the decoders."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from .. import codes, decoders
from ..codes import Code
from ..coding import adaptive
from ..coding.assignments import Assignment, Chosen, Rotating, Static
from ..coding.memory import Choose
from ..config.tables import Config
from ..problems.partition import Blocks, each, task_rows
from ..util.errors import InputError

ADAPTIVE = ("matched", "energy")
WEIGHT = 32  # of matched codewords, if not given
ROUNDING = {"bfloat16": 0.02, "float16": 0.002, "int8": 0.02}
"""Largest error of a rounded payload as a share of its norm, generously."""


def rows_of(config: Config, layers: Sequence[Blocks]) -> list[int]:
    """Codewords per task, r, of each layer.

    Raises
    ------
    InputError
        If a layer has fewer blocks.
    """
    table = config.code
    if table.share is not None and table.rows_per_task is not None:
        raise InputError(f"code.share: {table.share} says the same as code.rows_per_task; give one of them")
    wanted: Any = table.rows_per_task or 1
    if table.share is not None:
        wanted = [max(1, ceil(table.share * layer.count - 1e-9)) for layer in layers]
    rows = task_rows(layers, wanted)
    for layer, r in zip(layers, rows, strict=True):
        if r > layer.count:
            raise InputError(
                f"code.rows_per_task: {r} codewords are more than the {layer.count} blocks of a layer; "
                "blocks = 1 sends it whole"
            )
    return rows


def weights_of(config: Config, layers: Sequence[Blocks], default: int | None) -> list[int | None]:
    """Weight w of each layer's codewords as asked for, or the default, no more than its blocks."""
    asked = each("code.weight", config.code.weight, len(layers))
    weights: list[int | None] = []
    for layer, weight in zip(layers, asked, strict=True):
        w = default if weight is None else int(weight)
        weights.append(1 if layer.whole else None if w is None else min(w, layer.count) if default else w)
    return weights


def create(config: Config, layers: Sequence[Blocks], workers: int) -> Assignment:
    """Design the codes that the layers need and assign their rows.

    Parameters
    ----------
    config : Config
        Of the run.
    layers : sequence of Blocks
        Partition of each layer.
    workers : int
        Number of workers n.

    Returns
    -------
    Assignment

    Raises
    ------
    InputError
        If the design is impossible.
    """
    table, dtype, rows = config.code, np.dtype(config.problem.dtype), rows_of(config, layers)
    if table.family in ADAPTIVE:
        known = {"exponent"} if table.family == "energy" else set()
        for name in table.options.keys() - known:
            has = "has no other option than exponent" if known else "has no options"
            raise InputError(f"code.options.{name}: {table.options[name]!r}: '{table.family}' {has}")
        if table.rows is not None:
            raise InputError(f"code.rows: {table.rows}: '{table.family}' has no fixed rows")
        limits = [w or 1 for w in weights_of(config, layers, 4 if table.family == "energy" else WEIGHT)]
        if table.family == "matched":
            return Chosen(layers, rows, dtype, limits)
        _one_weight(layers, limits)
        if not table.rotate:
            raise InputError("code.rotate: false, but 'energy' is drawn anew by what has arrived")
        return adaptive.Energy(
            layers, rows, dtype, limits, config.seed, table.decay, config.update.mode != "async",
            table.options.get("exponent", 0.5),
        )  # fmt: skip
    designs: dict[int, Code] = {}
    weights = _one_weight(layers, weights_of(config, layers, None))
    needed: dict[int, int] = {}
    for layer, r in zip(layers, rows, strict=True):
        if not layer.whole:
            needed[layer.count] = max(needed.get(layer.count, 0), r)
    each_update = config.update.mode != "async"
    for k in sorted(needed):
        designs[k] = _design(config, k, weights[k], needed[k], workers, each_update)
    if table.rotate:
        return Rotating(layers, rows, dtype, designs, config.seed, each_update)
    return Static(layers, rows, dtype, designs)


def _one_weight(layers: Sequence[Blocks], weights: Sequence[int | None]) -> dict[int, int | None]:
    """Weight of the code of each block count; layers with equally many blocks share one."""
    shared: dict[int, int | None] = {}
    for layer, w in zip(layers, weights, strict=True):
        if not layer.whole and shared.setdefault(layer.count, w) != w:
            raise InputError(
                f"code.weight: layers of {layer.count} blocks share a code of one weight, "
                f"not {shared[layer.count]} and {w}"
            )
    return shared


def _design(config: Config, k: int, weight: int | None, r: int, workers: int, each_update: bool) -> Code:
    """The code of layers of k blocks."""
    table = config.code
    if table.family not in (*codes.FAMILIES, "auto"):
        known = ", ".join(dict.fromkeys([*codes.FAMILIES, "auto", *ADAPTIVE]))
        raise InputError(f"code.family: '{table.family}' is not one of {known}")
    sizes = [table.rows or workers * r]
    # one basis; or enough for all of an update's tasks, if that exists
    if table.rows is None and table.rotate:
        one = codes.fitting_rows(table.family, r, k)
        sizes = [codes.fitting_rows(table.family, workers * r, k), one] if each_update else [one]
    for last, rows in enumerate(sizes, 1 - len(sizes)):
        try:
            return codes.design(
                table.family, workers=rows, blocks=k, weight=weight, seed=config.seed, **table.options
            )
        except (InputError, TypeError) as error:
            if last == 0:
                raise InputError(
                    f"code.family: no '{table.family}' of {rows} rows over {k} blocks: {error}"
                ) from None
    raise AssertionError("there is a size")


def decoder_kind(config: Config) -> str:
    """The decoder as given, or as the memory needs."""
    if config.memory.kind == "difference":
        return "summing"
    return config.decoder.kind or ("tracking" if config.memory.kind == "coordinator" else "adjoint")


def make_decoders(
    config: Config, layers: Sequence[Blocks], designs: dict[int, Code] | None = None
) -> list[decoders.Decoder]:
    """A decoder a layer, as the configuration says; `designs` tell the adjoint what it captures."""
    kind, table = decoder_kind(config), config.decoder
    made = []
    for layer in layers:
        options: dict[str, Any] = {"length": layer.length}
        if kind == "adjoint":
            if designs and layer.count in designs:
                options["rows"] = len(designs[layer.count])
            # Where nothing of a gradient is lost, or its best part is sent, nothing must be scaled up.
            if config.memory.kind == "worker" or config.code.family == "matched":
                options["mean_of"] = config.workers.count
        elif kind == "summing":
            options["mean_of"] = config.workers.count
        elif kind == "tracking":
            options["step"] = table.step
        elif kind == "mmse":
            options |= {"noise": table.noise, "decay": table.decay}
        elif kind == "residual":
            rounding = ROUNDING.get(config.wire.dtype or "")
            options |= {"tolerance": table.tolerance or rounding, "faults": table.faults}
        made.append(decoders.create(kind, layer.count, layer.shape, config.problem.dtype, **options))
    return made


def choosers(config: Config, layers: Sequence[Blocks], worker: int) -> list[Choose | None]:
    """What picks the codewords of each layer at a worker; None for a layer that is sent whole."""
    from ..codes.matched import Matched

    rows, limits = rows_of(config, layers), weights_of(config, layers, WEIGHT)
    dtype = np.dtype(config.problem.dtype)
    return [
        None
        if layer.whole
        else Matched(layer.count, layer.elements, layer.length, r, w or 1, dtype, config.seed + worker)
        for layer, r, w in zip(layers, rows, limits, strict=True)
    ]
