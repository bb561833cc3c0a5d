"""The schema of a trace file: tables and columns with type, unit and description.

Times (`t_*_ns`) are nanoseconds since the start of the run on rank 0's clock. Worker i is MPI rank i + 1.
Rows are only appended, so readers of a running, killed or finished run see the same rows.
"""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

SCHEMA = "pdcode-trace"
SCHEMA_VERSION = 2

ARITHMETIC = 3
"""Version of the arithmetic of θ: rounding, the order of codewords, whitening. A trace without it has 1."""

USED, WASTED, DRAINED, REFUSED, CLIPPED, LOST, LOST_AT_RANK_0 = range(7)
"""Fates of payloads, values of `arrivals/status`: used in a step; too late; after the stop; not finite, or
not the answer to the worker's task; used, but scaled down first; lost with a worker; lost with rank 0,
after its last checkpoint. Of a payload that is lost with its worker there is no row."""

FATES = "used", "wasted", "drained", "refused", "clipped", "lost", "lost_at_rank_0"
"""Names of the fates, by which counters have their totals."""

APPLIED = USED, CLIPPED
"""Fates of payloads that are in a step."""

ENOUGH, TIME, ALONE = 0, 1, 2
"""Values of `updates/why`: enough payloads, the time to wait for more was over, no other was expected."""

MESSAGE = 2**40  # no message has more bytes


INT64 = {"least": -(2**63), "most": 2**63 - 1}
CLOCK = {"least": -(2**60), "most": 2**60}  # bounds of what clocks show, ns


class Column(NamedTuple):
    """A column of a table: one dataset.

    Attributes
    ----------
    dtype : str
        Type in numpy's notation with an explicit byte order.
    units, description : str
        Unit and meaning, stored with the dataset.
    default : number, optional
        Value for older files without the column; a file that lacks a column without default is damaged.
    least, most : int
        Bounds of the values of integers; else the file is damaged.
    """

    dtype: str
    units: str
    description: str
    default: float | None = None
    least: int = 0
    most: int = 2**62  # no difference of two values overflows


class Attribute(NamedTuple):
    """An attribute of a trace that readers use.

    Attributes
    ----------
    kind : type
        Python type; `list` is a list of integers, `float` includes integers.
    least, most : number
        Bounds of its values.
    values : tuple of str
        Possible values; empty: any.
    """

    kind: type
    least: float = 0
    most: float = 2**63 - 1
    values: tuple[str, ...] = ()

    def fits(self, value: Any) -> bool:
        """Return whether a value has the type, and is within the bounds."""
        if self.kind is list:
            return isinstance(value, list) and all(self._replace(kind=int).fits(each) for each in value)
        if self.kind is float:
            return type(value) in (int, float) and self.least <= value <= self.most
        if self.kind is int:
            return type(value) is int and self.least <= value <= self.most
        return isinstance(value, self.kind) and (not self.values or value in self.values)


ARRIVALS = {
    "worker": Column("<i4", "1", "worker that sent the payload; it is MPI rank worker + 1"),
    "task": Column("<i8", "1", "the worker's own count of its tasks, from 0"),
    "version": Column("<i8", "1", "version of theta that the payload was computed at"),
    "applied_version": Column(
        "<i8", "1", "version of theta that the payload was applied to; -1: to none", least=-1
    ),
    "code_row": Column("<i8", "1", "first code row of the task, counted on through redraws", least=-1),
    "staleness": Column("<i4", "1", "versions that passed between the task's theta and the payload's use"),
    "t_dispatch_ns": Column("<i8", "ns", "rank 0 sent the task"),
    "t_start_ns": Column("<i8", "ns", "the worker began the task", least=-(2**62)),
    "t_compute_ns": Column("<i8", "ns", "the payload was ready; the injected delay begins", least=-(2**62)),
    "t_send_ns": Column("<i8", "ns", "the injected delay was over; the payload was sent", least=-(2**62)),
    "t_recv_ns": Column("<i8", "ns", "rank 0 received the payload"),
    "t_decoded_ns": Column("<i8", "ns", "rank 0 had decoded the payload"),
    "injected_delay_ns": Column(
        "<i8", "ns", "delay that the straggler model asked for; -1: without end", least=-1
    ),
    "bytes_up": Column("<i8", "B", "size of the worker's message: header and payload", most=MESSAGE),
    "bytes_down": Column(
        "<i8",
        "B",
        "size of rank 0's message that this one answers: header, codewords, theta or news of it; 0 for later "
        "parts of the answer",
        most=MESSAGE,
    ),
    "captured": Column("<f8", "1", "captured fraction of the gradient after this arrival"),
    "status": Column(
        "|u1",
        "1",
        "0 used, 1 wasted (late), 2 drained (after the stop), 3 refused (not finite, or no answer to the "
        "task), 4 clipped (scaled down and used), 6 lost with rank 0 since its last checkpoint",
        most=LOST_AT_RANK_0,
    ),
    "loss": Column("<f8", "1", "loss of the worker's mini-batch"),
    "round": Column("<i4", "1", "round of the update, from 0, in schemes of several rounds", 0),
    "part": Column("<i4", "1", "part of the task's reply, from 0, if it is sent in parts", 0),
}

UPDATES = {
    "version": Column("<i8", "1", "version of theta that the step led to"),
    "t_ns": Column("<i8", "ns", "the step was done"),
    "n_used": Column(
        "<i4", "1", "arrivals folded in for the step, also those that it then left out as outliers"
    ),
    "captured": Column("<f8", "1", "captured fraction of the gradient at the step"),
    "step_norm": Column("<f8", "1", "Euclidean norm of the change of theta"),
    "digest": Column(
        "<i8", "1", "digest of theta, with allreduce that of all workers; 0: not taken", 0, **INT64
    ),
    "waited_for": Column(
        "<i4", "1", "worker for which rank 0 waited last before the step; -1: for none", -1, least=-1
    ),
    "waited_ns": Column("<i8", "ns", "time from the payload before to that worker's, or to the step", 0),
    "why": Column(
        "|u1",
        "1",
        "why rank 0 stepped: 0 enough payloads, 1 no time to wait for more, 2 no other was expected",
        ENOUGH,
        most=ALONE,
    ),
}

PROGRESS = {
    "version": Column("<i8", "1", "version of theta that was measured"),
    "t_ns": Column("<i8", "ns", "time of that version"),
    "loss": Column("<f8", "1", "training loss"),
    "accuracy": Column("<f8", "1", "test accuracy, or R^2 for regression; nan: none"),
    "grad_norm": Column("<f8", "1", "Euclidean norm of the gradient; nan: not measured"),
}

FAULTS = {
    "t_ns": Column("<i8", "ns", "rank 0 noticed the fault"),
    "worker": Column("<i4", "1", "worker it concerns; -1: rank 0", least=-1),
    "task": Column("<i8", "1", "the worker's task; -1: unknown", least=-1),
    "kind": Column("|S32", "1", "what happened, in a word (UTF-8)"),
    "message": Column("|S256", "1", "the same in a sentence (UTF-8)"),
}

SEGMENTS = {
    "t_ns": Column("<i8", "ns", "the run began, or went on after an end, at a checkpoint of this time"),
    "version": Column("<i8", "1", "version of theta at that"),
    "arrivals": Column("<i8", "1", "rows of arrivals before it"),
    "lost": Column("<i8", "1", "recorded arrivals after the checkpoint, which were lost"),
    "begun_ns": Column("<i8", "ns", "time of day, since 1970", 0),
}

TABLES = {
    "arrivals": ARRIVALS,
    "updates": UPDATES,
    "progress": PROGRESS,
    "faults": FAULTS,
    "segments": SEGMENTS,
}
"""Tables that grow during a run: name -> columns in the order of a row's values."""

WORKERS = {
    "host": Column("|O", "1", "host name"),
    "rank": Column("<i4", "1", "MPI rank"),
    "clock_offset_ns": Column("<i8", "ns", "the rank's clock minus rank 0's, at the start", **CLOCK),
    "clock_error_ns": Column("<i8", "ns", "bound on that offset's error"),
    "clock_t_ns": Column("<i8", "ns", "when that offset was measured", **CLOCK),
    "end_clock_offset_ns": Column("<i8", "ns", "the rank's clock minus rank 0's, at the end", **CLOCK),
    "end_clock_error_ns": Column("<i8", "ns", "bound on that offset's error"),
    "end_clock_t_ns": Column("<i8", "ns", "when that offset was measured; -1: not known", **CLOCK),
}
"""Columns of `workers`, one row per rank. The `end_` columns are written when the trace is closed."""

DIMENSIONS = {
    "arrivals": "arrival",
    "updates": "version",
    "progress": "version",
    "faults": "fault",
    "segments": "segment",
    "workers": "rank",
}
"""Dimension of a table's rows; a column of that name is its coordinate."""

ATTRIBUTES = {
    "arrivals": Attribute(str, values=("all", "sampled", "none")),
    "clock": Attribute(str, values=("real", "virtual")),
    **dict.fromkeys(("config", "config_resolved", "created", "creator"), Attribute(str)),
    **dict.fromkeys(("git_commit", "mpi_library", "run"), Attribute(str)),
    **dict.fromkeys(("finished", "numerics"), Attribute(bool)),
    **dict.fromkeys(("arithmetic", "schema_version"), Attribute(int, 1)),
    "sample": Attribute(int, 1, 2**31 - 1),
    "workers": Attribute(int, 0, 2**31 - 1),
    "task_ns": Attribute(int, 0, 2**62),
    **dict.fromkeys(
        ("gradient_bytes", "header_bytes", "parameters", "rows", "seed", "task_rows"), Attribute(int)
    ),
    "task_flops": Attribute(float, 1, 1e300),
    **dict.fromkeys(("setup_bytes_down", "setup_bytes_up"), Attribute(int, 0, 2**62)),
    **dict.fromkeys(("blocks", "rows_per_task", "weights"), Attribute(list, 0, 2**31 - 1)),
}
"""Root attributes that readers use; any may be missing."""

LAYERS = "blocks", "rows_per_task", "weights"
"""Root attributes that are lists with an entry per layer."""

CODE = {"family": Attribute(str), "weight": Attribute(int), "coherence": Attribute(float, -inf)}
"""Attributes of a code."""

COUNTER = Attribute(float, 0, inf)
"""An attribute of ``/checkpoint``; those of times in ns are `Attribute(float)`, which int64 can hold."""

WORKER_CLOCK = ("t_start_ns", "t_compute_ns", "t_send_ns")
"""Columns of `arrivals` stamped by workers, and moved to rank 0's clock by the offset at the start."""
