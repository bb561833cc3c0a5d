"""Description of a run in a few lines, from its trace's configuration and attributes."""

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config import DecoderTable, MemoryTable, StragglersTable, UpdateTable, building, kinds, legacy
from ..trace.reader import TraceReader
from ..trace.schema import DRAINED, ENDING
from ..util.errors import InputError, escape, prefix_errors
from ..util.formats import counted, duration, listing, percent, workers_named
from . import timing

STALE = 5  # multiple of flush_s without a new row after which a run counts as killed
KILLED = "killed or hanging"
LATE = {"use": "late payloads are used", "waste": "late payloads are wasted"}
DESCRIBED: dict[tuple[str, str], Any] = {
    ("problem", "l2"): float | None,
    ("memory", "keep"): float,
    ("optimizer", "momentum"): float | None,
    ("optimizer", "proximal"): dict[str, Any] | None,
}
"""Types of described keys of kinds, which are not checked when a trace is read."""


def faults_to_show(trace: TraceReader) -> np.ndarray:
    """Return the rows of faults without tasks that a resumption lost, of which each worker may have one."""
    return np.flatnonzero(trace.faults["kind"] != "lost")


def stop_ns(trace: TraceReader) -> int:
    """Return when a run stopped, or its last event so far; outstanding payloads may have arrived later."""
    if stopped := trace.counters.get("t_stop_ns"):
        return int(stopped)
    received = trace.arrivals["t_recv_ns"][trace.arrivals["status"] != DRAINED]
    failed = trace.faults["t_ns"][trace.faults["kind"] == "stop"]
    return timing.length_ns([{"t_ns": received}, {"t_ns": failed}, trace.updates, trace.progress])


def failure(trace: TraceReader) -> str:
    """Return why a run failed, such as "interrupted"; empty if no failure is recorded."""
    return next(iter(trace.faults["message"][np.isin(trace.faults["kind"], ENDING)].tolist()), "")


def outcome(trace: TraceReader) -> str:
    """Return how a run ended: finished, failed, interrupted, running, or killed or hanging."""
    if reason := failure(trace):
        return reason if reason == "interrupted" else "failed"
    if trace.finished:
        return "finished"
    late = _age_s(trace) > STALE * float(trace.attributes.get("flush_s", 1.0))
    return KILLED if late else "running"


def _age_s(trace: TraceReader) -> float:
    return max(0.0, time.time() - trace.path.stat().st_mtime)


def headline(trace: TraceReader) -> str:
    """Return a line with the name of the file, and how and when the run ended."""
    stop, how, age = stop_ns(trace), outcome(trace), duration(1e9 * _age_s(trace))
    text = f"{how} {'for' if how == 'running' else 'after'} {duration(stop)}"
    text += " of virtual time" if is_virtual(trace) else ""
    text += _requested(trace.table("stop")) if how != "finished" else ""
    why = failure(trace)
    known = trace.descent.what.startswith(why)  # which is said in a line of its own
    more = {
        "failed": f": {why.partition(':')[0] if known else why}",
        "running": f"; last written {age} ago",
        KILLED: f"; nothing was written in the last {age}",
    }
    text += more.get(how, "")
    later = timing.length_ns([trace.arrivals]) - stop
    if later > 0.01 * stop:
        text += f"; the last payload arrived {duration(later)} later"
    for kind, what in (("dead", "died"), ("missing", "stopped answering")):
        if len(workers := np.unique(trace.faults["worker"][trace.faults["kind"] == kind])):
            text += f"; {workers_named(workers)} {what}"
    return escape(f"{trace.path}: {text}")


def _requested(stop: Mapping[str, Any]) -> str:
    seconds = duration(1e9 * stop["seconds"]) if stop.get("seconds") else ""
    updates = counted(stop["updates"], "update") if stop.get("updates") else ""
    epochs = f"{stop['epochs']:g} epochs" if stop.get("epochs") else ""
    text = " or ".join(filter(None, (seconds, updates, epochs)))
    return f" of {text} requested" if text else ""


def is_virtual(trace: TraceReader) -> bool:
    """Return whether the run was on the virtual clock."""
    return trace.attributes.get("clock") == "virtual"


def lines(trace: TraceReader) -> dict[str, str]:
    """Return descriptions of the run by topic, without topics that the trace does not cover."""
    config = {name: table for name, table in trace.config.items() if isinstance(table, Mapping)}
    with prefix_errors(f"{trace.path}: damaged: config_resolved"):
        for (name, key), hint in DESCRIBED.items():
            if key in config.get(name, {}):
                building.build(hint, config[name][key], f"{name}.{key}")
    scheme = config.get("scheme", {})
    unused = getattr(kinds.find("schemes", scheme.get("name")), "unused", ())
    recorder = str(trace.attributes.get("recorder", ""))
    steps = "steps in which all wait for all"
    if trace.is_unordered:
        steps = "tasks of workers that do not wait for each other"
    topics = {
        "problem": _problem(config.get("problem", {}), int(trace.attributes.get("parameters", 0))),
        "workers": _workers(trace),
        "scheme": _scheme(scheme),
        "code": _code(config.get("code", {}), trace.code_attributes, trace.attributes),
        "decoder": _decoder(config),
        "update": ""
        if recorder
        else _update(
            policy(trace) + _reduction(config), config.get("update", {}), config.get("optimizer", {})
        ),
        "recorded": recorder and f"by {recorder}: {steps}",
        "delays": delays(config.get("stragglers", {})),
        "clock": _clock(trace),
        "before": _earlier_presets(trace),
        "resumed": _segments(trace),
        "created": _created(trace.attributes),
    }
    return {topic: escape(text) for topic, text in topics.items() if text and topic not in unused}


def delays(table: Mapping[str, Any]) -> str:
    """Describe the injected delays of a table ``[stragglers]``."""
    if not table:
        return ""
    try:
        return legacy.read_kind(StragglersTable, table).describe()
    except InputError:  # a kind of a plug-in or of another version
        return ", ".join([str(table.get("kind")), *(f"{key} {table[key]}" for key in table if key != "kind")])


def _earlier_presets(trace: TraceReader) -> str:
    """Describe the presets before each change."""
    changes = np.flatnonzero(trace.segments["preset"])
    times = zip(trace.segments["t_ns"][changes], trace.segments["version"][changes], strict=True)
    return "; ".join(
        f"{_scheme(before['config'].get('scheme', {}))} until {duration(t_ns)}, update {version:,}"
        for before, (t_ns, version) in zip(trace.earlier_presets, times, strict=True)
    )


def _segments(trace: TraceReader) -> str:
    resumed = trace.segments["preset"][1:] == 0
    began_s, lost = 1e-9 * trace.segments["t_ns"][1:][resumed], int(trace.segments["lost"].sum())
    if not len(began_s):
        return ""
    times = ", ".join(f"{each:.3g} s" for each in began_s)
    return f"from checkpoints at {times}; {lost} recorded arrivals after them were lost"


def _problem(table: Mapping[str, Any], parameters: int) -> str:
    if not table:
        return ""
    kind = str(table.get("kind", "?"))
    if kind == "mlp":
        hidden = table.get("hidden", [])
        widths = "-".join(map(str, hidden if isinstance(hidden, list) else [hidden]))
        kind += f" {widths} {table.get('activation', '')}".rstrip()
    batch, data = table.get("batch", 0), table.get("data", "?")
    return _join(
        f"{kind} on {data}" if data else f"{kind} of {table.get('function', '?')}",
        f"batch {batch}" if batch else "full batch" if data else "",
        f"l2 {table['l2']:g}" if table.get("l2") else "",
        str(table.get("dtype", "")),
        f"{parameters:,} parameters" if parameters else "",
    )


def accuracy_name(table: Mapping[str, Any]) -> str:
    """Return the name of the score of a table ``[problem]``: accuracy, R² or D²."""
    kind = kinds.find("problems", table.get("kind"))
    name = getattr(kind, "score", "accuracy")
    return name if isinstance(name, str) else "score"


def _workers(trace: TraceReader) -> str:
    hosts = Counter(str(host) for host in trace.workers["host"]) if trace.workers else Counter()
    count = trace.worker_count
    text = f"{count} worker" + ("s" if count != 1 else "")
    if is_virtual(trace):
        return f"{text}, virtual"
    if len(hosts) == 1:
        return f"{text} on {next(iter(hosts))}"
    shown = listing([f"{host} ({number})" for host, number in hosts.most_common(4)])
    if len(hosts) > 4:
        shown += f" and {len(hosts) - 4} more"
    return f"{text} on {len(hosts)} hosts: {shown}" if hosts else text


def _clock(trace: TraceReader) -> str:
    """Describe the clock; for a virtual clock, with the model's times and loads."""
    counters = trace.counters
    if not is_virtual(trace):
        return ""
    task_ns = trace.attributes.get("task_ns")
    text = "virtual" if task_ns is None else f"virtual: a task computes {duration(task_ns)}"
    if trace.attributes.get("numerics") is False:
        text += "; no gradients were computed"
    measured = {"processor_ns", "ingress_ns", "egress_ns"} <= counters.keys()
    if not (measured and counters.get("t_stop_ns") and counters.get("arrivals")):
        return text
    stop_ns = counters["t_stop_ns"]
    least_s = counters.get("oracle_s", 0)
    if 0 < least_s < math.inf:
        multiple = 1e-9 * stop_ns / least_s
        text += f"; the run took {multiple:.2f}× the time of an oracle that balances the same tasks perfectly"
    busy = (percent(timing.busy_ns(counters, what), stop_ns) for what in ("processor", "ingress", "egress"))
    return text + "; rank 0 was busy {} % of the time, its link received {} % and sent {} %".format(*busy)


def _scheme(table: Mapping[str, Any]) -> str:
    options = table["options"] if isinstance(table.get("options"), Mapping) else {}
    preset = f"preset {table['preset']}" if table.get("preset") else ""
    keys = _join(preset, *(f"{key} {value}" for key, value in options.items() if value is not None))
    name = str(table.get("name", ""))
    return f"{name} ({keys})" if keys else name


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
    formats, keep = wire.get("dtype"), memory.get("keep", 1)
    kept = "" if keep == 1 else f" (keep {keep:g})"
    return _join(
        _decoder_kind(decoder, memory) if decoder else "",
        f"memory {memory['kind']}{kept}" if "kind" in memory else "",
        f"wire {formats if isinstance(formats, str) else '/'.join(formats)}" if formats else "",
        "" if _by_workers(config) else f"downlink {down['kind']}" if "kind" in down else "",
    )


def _decoder_kind(table: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    try:
        kind = legacy.read_kind(MemoryTable, memory).decoder_for(table.get("kind"))
        return legacy.read_kind(DecoderTable, {**table, "kind": kind}).describe()
    except InputError:  # a kind of a plug-in
        return str(table.get("kind"))


def policy(trace: TraceReader) -> str:
    """Return the policy of a run: async, all, "first 6 of 8", "quorum 6 of 8" or "captured 0.75"."""
    table = policy_table(trace)
    if table is None:
        return str(trace.table("update").get("mode", ""))
    return table.description(trace.worker_count)


def policy_table(trace: TraceReader) -> UpdateTable | None:
    """Return the policy of a run; None if none is recorded, or it is of a plug-in."""
    return _policy({"mode": "async"} if trace.is_unordered else trace.table("update"))


def _policy(update: Mapping[str, Any]) -> UpdateTable | None:
    """Return a recorded policy; None if there is none, or it is of a plug-in."""
    try:
        return legacy.read_kind(UpdateTable, update) if update else None
    except InputError:
        return None


def _by_workers(config: Mapping[str, Mapping[str, Any]]) -> str:
    kind = str(config.get("reduce", {}).get("kind", "star"))
    return "" if kind == "star" else f" by {kind}"


def _reduction(config: Mapping[str, Mapping[str, Any]]) -> str:
    bits = config.get("reduce", {}).get("bits")
    return _by_workers(config) + (f" of integers of {bits} bits" if bits else "")


def _update(policy: str, update: Mapping[str, Any], optimizer: Mapping[str, Any]) -> str:
    table = _policy(update)
    momentum = "Nesterov momentum" if optimizer.get("nesterov") else "momentum"
    return _join(
        policy,
        "" if table and (table.asynchronous or table.complete) else LATE.get(str(update.get("late")), ""),
        f"{optimizer['kind']} at rate {optimizer.get('rate', 0):g}" if "kind" in optimizer else "",
        f"{momentum} {optimizer['momentum']:g}" if optimizer.get("momentum") else "",
        f"proximal {optimizer['proximal'].get('kind', '?')}" if optimizer.get("proximal") else "",
        "damped by staleness" if optimizer.get("staleness") == "inverse" else "",
    )


def _created(attributes: Mapping[str, Any]) -> str:
    commit = str(attributes.get("git_commit") or "")
    return _join(
        str(attributes.get("created", "")).replace("T", " ").replace("Z", " UTC"),
        str(attributes.get("creator", "")) + (f" at commit {commit[:10]}" if commit else ""),
        str(attributes.get("mpi_library") or "").split(",")[0],
    )


def _join(*texts: str) -> str:
    return ", ".join(filter(None, texts))
