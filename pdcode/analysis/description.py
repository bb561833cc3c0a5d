"""Description of a run in a few lines, from its trace's configuration and attributes."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..config import kinds
from ..config.tables import DecoderTable, MemoryTable
from ..trace.reader import Trace
from ..trace.schema import DRAINED
from ..util.errors import InputError
from . import delays, timing
from .formats import duration, listing, percent


def workers_of(trace: Trace) -> int:
    """Return a run's number of workers: as recorded, but at least the number that its rows name."""
    told = int(trace.attributes.get("workers", 0))
    seen = int(trace.arrivals["worker"].max()) + 1 if trace.arrivals.rows else 0
    return max(told, seen, sum(int(rank) > 0 for rank in trace.workers["rank"]) if trace.workers else 0)


def stop_ns(trace: Trace) -> int:
    """Return when a run stopped, or its last event so far; payloads still out then may have come later."""
    if stopped := trace.counters.get("t_stop_ns"):
        return int(stopped)
    heard = trace.arrivals["t_recv_ns"][trace.arrivals["status"] != DRAINED]
    return timing.length_ns([{"t_ns": heard}, trace.updates, trace.progress])


def headline(trace: Trace, length: float) -> str:
    """Return a line with the name of the file and whether the run has ended."""
    if trace.finished:
        if is_virtual(trace):
            stop = trace.counters.get("t_stop_ns", length)
            drained = f"; the last payload was in after {duration(length)}" if length > stop else ""
            return f"{trace.path}: finished after {duration(stop)} of virtual time{drained}"
        return f"{trace.path}: finished after {duration(length)}"
    age = max(0.0, time.time() - trace.path.stat().st_mtime)
    written = f"written {duration(1e9 * age)} ago" if age >= 0.001 else "just written"
    return f"{trace.path}: not finished (running, or killed); {duration(length)} so far, {written}"


def is_virtual(trace: Trace) -> bool:
    """Return whether the run was on the virtual clock."""
    return trace.attributes.get("clock") == "virtual"


def lines(trace: Trace) -> dict[str, str]:
    """Describe the run, by topic; topics on which the trace is silent are left out."""
    config = {name: table for name, table in trace.config.items() if isinstance(table, Mapping)}
    scheme = config.get("scheme", {})
    unused = getattr(kinds.find("schemes", scheme.get("name")), "unused", ())
    topics = {
        "problem": _problem(config.get("problem", {}), int(trace.attributes.get("parameters", 0))),
        "workers": _workers(trace),
        "scheme": _scheme(scheme),
        "code": _code(config.get("code", {}), trace.code_attributes, trace.attributes),
        "decoder": _decoder(config),
        "update": _update(config.get("update", {}), config.get("optimizer", {})),
        "delays": delays.words(config.get("stragglers", {})),
        "clock": _clock(trace),
        "made": _made(trace.attributes),
    }
    return {topic: text for topic, text in topics.items() if text and topic not in unused}


def _problem(table: Mapping[str, Any], parameters: int) -> str:
    if not table:
        return ""
    kind = str(table.get("kind", "?"))
    if kind == "mlp":
        kind += f" {'-'.join(map(str, table.get('hidden', [])))} {table.get('activation', '')}".rstrip()
    batch = table.get("batch", 0)
    parts = [
        f"{kind} on {table.get('data', '?')}",
        f"batch {batch}" if batch else "full batch",
        f"l2 {table['l2']:g}" if table.get("l2") else "",
        str(table.get("dtype", "")),
        f"{parameters:,} parameters" if parameters else "",
    ]
    return ", ".join(filter(None, parts))


def accuracy_name(table: Mapping[str, Any]) -> str:
    """Return the name of the accuracy for a table ``[problem]``: accuracy or R²."""
    kind = kinds.find("problems", table.get("kind"))
    return "R²" if getattr(kind, "classes", None) is False else "accuracy"


def _workers(trace: Trace) -> str:
    hosts = Counter(str(host) for host in trace.workers["host"]) if trace.workers else Counter()
    count = workers_of(trace)
    text = f"{count} worker" + ("s" if count != 1 else "")
    if is_virtual(trace):
        return f"{text}, virtual"
    if len(hosts) == 1:
        return f"{text} on {next(iter(hosts))}"
    shown = listing([f"{host} ({number})" for host, number in hosts.most_common(4)])
    if len(hosts) > 4:
        shown += f" and {len(hosts) - 4} more"
    return f"{text} on {len(hosts)} hosts: {shown}" if hosts else text


def _clock(trace: Trace) -> str:
    """Describe the clock; for a virtual clock, with the model's times and loads."""
    counters = trace.counters
    if not is_virtual(trace):
        return ""
    if not counters.get("t_stop_ns") or not 0 < counters.get("genie_s", 0) < math.inf:
        return "virtual"
    stop_ns = counters["t_stop_ns"]
    taken = sum(counters.get(what, 0) for what in ("used", "wasted", "refused")) / counters["arrivals"]
    parts = {"processor": taken, "ingress": taken, "egress": 1.0}  # without the time after the stop
    busy = [percent(min(part * counters[f"{what}_ns"], stop_ns), stop_ns) for what, part in parts.items()]
    return (
        f"virtual: a task computes {duration(trace.attributes['task_ns'])}; stopped after "
        f"{duration(stop_ns)}, {1e-9 * stop_ns / counters['genie_s']:.2f}× the oracle's time; rank 0 was "
        f"busy {busy[0]} % of the time, its link received {busy[1]} % and sent {busy[2]} %"
    )


def _scheme(table: Mapping[str, Any]) -> str:
    options = table["options"] if isinstance(table.get("options"), Mapping) else {}
    parts = [
        str(table.get("name", "")),
        f"preset {table['preset']}" if table.get("preset") else "",
        *(f"{key} {value}" for key, value in options.items()),
    ]
    keys = ", ".join(filter(None, parts[1:]))
    return f"{parts[0]} ({keys})" if keys else parts[0]


def _code(
    table: Mapping[str, Any], codes: Mapping[int, Mapping[str, Any]], attributes: Mapping[str, Any]
) -> str:
    counts, weights = (list(attributes.get(name, [])) for name in ("blocks", "weights"))
    coded = sorted({(k, w) for k, w in zip(counts, weights, strict=True) if k > 1})
    parts = [
        f"{code['family']} with k = {k}, weight {code['weight']}, coherence {code['coherence']:.3g}"
        for k, code in codes.items()
    ]
    if not parts and not table:
        return ""
    if coded and not parts:
        parts = [f"{table.get('family')} with k = {k}, weight {w}" for k, w in coded]
    parts = parts or ["every layer uncoded"]
    rows = [r for k, r in zip(counts, attributes.get("rows_per_task", []), strict=True) if k > 1] or [1]
    rows = rows[:1] if len(set(rows)) == 1 else rows
    parts.append(f"{listing([str(r) for r in rows])} codeword{'s' if rows != [1] else ''} a task")
    if any(code.get("rotate") for code in codes.values()):
        parts.append("rotating")
    return "; ".join(parts)


def _decoder(config: Mapping[str, Mapping[str, Any]]) -> str:
    decoder, memory, wire, down = (config.get(name, {}) for name in ("decoder", "memory", "wire", "downlink"))
    kind = _decoder_kind(decoder, memory) if decoder else ""
    parts = [
        kind,
        f"memory {memory['kind']}" if "kind" in memory else "",
        f"wire {wire['dtype']}" if wire.get("dtype") else "",
        f"downlink {down['kind']}" if "kind" in down else "",
    ]
    return ", ".join(filter(None, parts))


def _decoder_kind(table: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    try:
        kind = MemoryTable.of(memory, old=True).decoder_for(table.get("kind"))
        return DecoderTable.of({**table, "kind": kind}, old=True).describe()
    except InputError:  # a kind of a plug-in
        return str(table.get("kind"))


def _update(update: Mapping[str, Any], optimizer: Mapping[str, Any]) -> str:
    mode = str(update.get("mode", ""))
    extra = {"first": update.get("count"), "captured": update.get("fraction")}.get(mode)
    parts = [
        f"{mode} {extra:g}" if extra is not None else mode,
        f"late payloads: {update['late']}" if "late" in update and mode != "async" else "",
        f"{optimizer['kind']} at rate {optimizer.get('rate', 0):g}" if "kind" in optimizer else "",
        f"momentum {optimizer['momentum']:g}" if optimizer.get("momentum") else "",
        "damped by staleness" if optimizer.get("staleness") == "inverse" else "",
    ]
    return ", ".join(filter(None, parts))


def _made(attributes: Mapping[str, Any]) -> str:
    commit = str(attributes.get("git_commit") or "")
    parts = [
        str(attributes.get("created", "")).replace("T", " ").replace("Z", " UTC"),
        str(attributes.get("creator", "")) + (f" at commit {commit[:10]}" if commit else ""),
        str(attributes.get("mpi_library") or "").split(",")[0],
    ]
    return ", ".join(filter(None, parts))
