"""The delays of a run in words, from its table ``[stragglers]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formats import duration, listing


def words(table: Mapping[str, Any]) -> str:
    """What was injected; empty where the trace says nothing about it."""
    kind = str(table.get("kind", "none"))
    if kind == "none":
        return "none injected" if table else ""
    shift_s = table.get("shift_s", 0)
    parts = [_time(shift_s) if shift_s and kind != "pareto" else "", _part(kind, table)]
    text = " plus ".join(filter(None, parts)) or "none"
    slow, slowdown = sorted({*table.get("slow", [])}), table.get("slowdown", 1)
    that = (
        "that" if shift_s or kind not in ("slow-set", "heterogeneous") else "the task's compute time in all"
    )
    if kind == "heterogeneous":
        text += f" for worker 0, up to {slowdown:g}× {that} for the last"
    elif slow and slowdown != 1:
        text += f"; {slowdown:g}× {that} for {_workers(slow)}"
    dead = sorted({*table.get("dead", [])})
    if dead:
        text += f"; {_workers(dead)} never answer{'s' if len(dead) == 1 else ''}"
    return f"{kind}: {text}"


def _part(kind: str, table: Mapping[str, Any]) -> str:
    """What is drawn, or read."""
    if kind == "shifted-exponential":
        return f"an exponential one of mean {_time(table.get('mean_s', 0))}"
    if kind == "pareto":
        return f"at least {_time(table.get('shift_s', 0))}, with a tail of shape {table.get('shape', 0):g}"
    if kind == "bimodal":
        return f"{_time(table.get('extra_s', 0))} in {100 * table.get('probability', 0):g} % of the tasks"
    if kind == "lognormal":
        sigma = table.get("sigma", 0)
        return f"a lognormal one of median {_time(table.get('median_s', 0))} and sigma {sigma:g}"
    if kind == "markov":
        enter, leave = table.get("enter", 0), table.get("leave", 0)
        share = 100 * enter / (enter + leave or 1)
        spells = f"of {1 / leave:g} tasks" if leave > 1e-300 else "without end"
        return f"{_time(table.get('extra_s', 0))} in spells {spells}, {share:.3g} % of all"
    if kind == "trace":
        how = "in their order" if table.get("draw") == "replay" else "at random"
        return f"those recorded in {table.get('path')}, {how}"
    return ""


def _time(seconds: float) -> str:
    return duration(1e9 * seconds)


def _workers(workers: list[int]) -> str:
    shown = [str(worker) for worker in workers[:16]] + ([f"{len(workers) - 16} more"] if workers[16:] else [])
    return f"worker{'s' if len(workers) > 1 else ''} {listing(shown)}"
