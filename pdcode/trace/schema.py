"""The schema of a trace file: tables and columns with type, unit and description.

A column is declared here alone. The rows of `kernels.records` are made from `ARRIVALS` and `UPDATES` when the
kernels are built, by ``csrc/rows.py``.

Times (`t_*_ns`) are nanoseconds since the start of the run on rank 0's clock. Worker i is MPI rank i + 1.
Rows are only appended, so readers of a running, killed or finished run see the same rows.
"""

from math import inf, nan
from typing import Any, NamedTuple

SCHEMA = "pdcode-trace"
SCHEMA_VERSION = 2

ARITHMETIC = 3
"""Version of the arithmetic of θ: rounding, order of codewords, whitening; 1 if the trace has none."""

COSTS = 6
"""Version of the costs of the virtual clock; 1 if the trace has none."""

USED, WASTED, DRAINED, REFUSED, CLIPPED, LOST, LOST_AT_RANK_0 = range(7)
"""Fates of payloads, the values of `arrivals/status`: used in a step; too late; after the stop; not finite,
too large or not the answer to the worker's task; scaled down and used; lost with its worker (without a row);
lost with rank 0 after its last checkpoint."""

ENDING = "stop", "exception", "diverged"  # kinds of faults that end a run
FATES = "used", "wasted", "drained", "refused", "clipped", "lost", "lost_at_rank_0"
"""Names of the fates, and of the counters of their totals."""

APPLIED = USED, CLIPPED
"""Fates of payloads that contribute to a step."""

ENOUGH, TIME, ALONE = 0, 1, 2
"""Values of `updates/why`: enough payloads, the time to wait for more was over, no other was expected."""

MESSAGE = 2**40  # bytes of a message, at most
INT64: dict[str, Any] = {"least": -(2**63), "most": 2**63 - 1}
CLOCK: dict[str, Any] = {"least": -(2**60), "most": 2**60}  # ns that a clock may show


class Column(NamedTuple):
    """A column of a table: one dataset, with unit and description as attributes."""

    dtype: str  # in numpy's notation, with the byte order
    units: str
    description: str
    default: float | None = None  # for older files; a file without a column that has no default is damaged
    least: int = 0  # bounds of integers; a file with other values is damaged
    most: int = 2**62  # so that no difference of two values overflows
    given: bool = False  # of arrivals: whether it is given beside the reply; else an attribute of the reply
    attribute: str = ""  # the name of this attribute, if it is not the column's


class Attribute(NamedTuple):
    """Type and bounds of an attribute of a trace that readers use."""

    kind: type  # `list` stands for a list of integers, `float` includes integers
    least: float = 0
    most: float = 2**63 - 1
    values: tuple[str, ...] = ()  # possible texts; empty: any

    def fits(self, value: Any) -> bool:
        """Return whether a value has the type and is within the bounds."""
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
        "<i8", "1", "version of theta that the payload was applied to; -1: none", least=-1, given=True
    ),
    "code_row": Column(
        "<i8", "1", "first code row of the task, numbered on through redraws", least=-1, attribute="row"
    ),
    "staleness": Column(
        "<i4", "1", "versions that passed between the task's theta and the payload's use", given=True
    ),
    "t_dispatch_ns": Column("<i8", "ns", "rank 0 sent the task", given=True),
    "t_start_ns": Column("<i8", "ns", "the worker began the task", least=-(2**62)),
    "t_compute_ns": Column("<i8", "ns", "the payload was ready; the injected delay begins", least=-(2**62)),
    "t_send_ns": Column("<i8", "ns", "the injected delay was over; the payload was sent", least=-(2**62)),
    "t_recv_ns": Column("<i8", "ns", "rank 0 received the payload"),
    "t_decoded_ns": Column("<i8", "ns", "rank 0 had decoded the payload", given=True),
    "injected_delay_ns": Column(
        "<i8", "ns", "delay drawn from the straggler model; -1: without end", least=-1
    ),
    "bytes_up": Column("<i8", "B", "size of the worker's message: header and payload", most=MESSAGE),
    "bytes_down": Column(
        "<i8",
        "B",
        "size of rank 0's message that this one answers: header, codewords, theta or its changes; 0 for "
        "later messages of the answer",
        most=MESSAGE,
    ),
    "captured": Column("<f8", "1", "captured fraction of the gradient after this arrival", given=True),
    "status": Column(
        "|u1",
        "1",
        "0 used, 1 wasted (late), 2 drained (after the stop), 3 refused (not finite or too large, or no "
        "answer to the task), 4 clipped (scaled down and used), 6 lost with rank 0 since its last checkpoint",
        most=LOST_AT_RANK_0,
        given=True,
    ),
    "loss": Column("<f8", "1", "loss of the worker's mini-batch"),
    "round": Column("<i4", "1", "round of the update, from 0, in schemes of several rounds", 0),
    "part": Column("<i4", "1", "message of the task's reply, from 0, if it is sent in several", 0),
}

UPDATES = {
    "version": Column("<i8", "1", "version of theta that the step led to"),
    "t_ns": Column("<i8", "ns", "the step was done"),
    "n_used": Column(
        "<i4", "1", "arrivals folded in for the step, including arrivals that it then left out as outliers"
    ),
    "captured": Column("<f8", "1", "captured fraction of the gradient at the step"),
    "step_norm": Column("<f8", "1", "Euclidean norm of the change of theta"),
    "digest": Column(
        "<i8", "1", "digest of theta, with allreduce of all workers; 0: not computed", 0, **INT64
    ),
    "waited_for": Column(
        "<i4", "1", "worker for which rank 0 waited last before the step; -1: none", -1, least=-1
    ),
    "waited_ns": Column("<i8", "ns", "time from the previous payload to that worker's, or to the step", 0),
    "why": Column(
        "|u1",
        "1",
        "reason for the step: 0 enough payloads, 1 the wait for more was over, 2 no other was expected",
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
    "averaged": Column(
        "|u1", "1", "1: these are of the average of theta, as its loss was the lower one", 0, most=1
    ),
    "other_loss": Column("<f8", "1", "training loss of the other of the two; nan: no average", nan),
}

FAULTS = {
    "t_ns": Column("<i8", "ns", "rank 0 noticed the fault; of kind lost: it sent the task"),
    "worker": Column("<i4", "1", "worker it concerns; -1: rank 0", least=-1),
    "task": Column(
        "<i8", "1", "the worker's task, or arrivals until hold and release; -1: unknown", least=-1
    ),
    "kind": Column("|S32", "1", "kind of the fault, a word (UTF-8)"),
    "message": Column("|S256", "1", "description of the fault (UTF-8)"),
}

SEGMENTS = {
    "t_ns": Column(
        "<i8", "ns", "the run began, was resumed from a checkpoint, or went on with another preset"
    ),
    "version": Column("<i8", "1", "version of theta at that time"),
    "arrivals": Column("<i8", "1", "rows of arrivals before that time"),
    "lost": Column("<i8", "1", "recorded arrivals after the checkpoint, which are lost"),
    "begun_ns": Column("<i8", "ns", "time since 1970 when it began", 0),
    "preset": Column("|u1", "1", "1: with another preset, see the attribute earlier_presets", 0, most=1),
}

PAUSES = {
    "t_ns": Column("<i8", "ns", "rank 0 began to do something else than to handle messages"),
    "spent_ns": Column("<i8", "ns", "time that it took"),
    "what": Column("|u1", "1", "0 it measured the loss, 1 it took a checkpoint", most=1),
}

EVALUATION, CHECKPOINT = range(2)
"""Values of `pauses/what`."""

PHASES = {
    "worker": Column("<i4", "1", "rank of a script"),
    "task": Column("<i8", "1", "its task, a step of the script"),
    "loading_ns": Column("<i8", "ns", "of the task's own work: it waited for its data loader"),
    "forward_ns": Column("<i8", "ns", "from the beginning of a forward pass to what follows, with the loss"),
    "backward_ns": Column("<i8", "ns", "the backward pass; the rest of the own work is between steps"),
}

SHUFFLES = {
    "worker": Column("<i4", "1", "worker that proceeded to the rows of another epoch"),
    "version": Column("<i8", "1", "version of theta of the task that the rows accompanied"),
    "base": Column("<i8", "1", "epoch whose rows the worker had; -1: it got all of its rows", least=-1),
    "epoch": Column("<i8", "1", "epoch of the rows"),
    "kind": Column("|u1", "1", "0 rows, 1 XORs for it, 2 XORs for all, 3 rows, of other workers too", most=3),
    "units": Column("<i8", "1", "rows, XORs, or parts of cached batches, that the worker got"),
    "bytes": Column("<i8", "B", "bytes that left rank 0; a broadcast is with its epoch's first task"),
    "exchanged": Column("<i8", "B", "bytes that came from other workers"),
    "digest": Column("<i8", "1", "CRC-32 of the units", most=2**32 - 1),
}

EVALUATIONS = {
    "worker": Column("<i4", "1", "worker that evaluated a point of a search"),
    "task": Column("<i8", "1", "its task"),
    "what": Column("|u1", "1", "0 a parameter, 1 a value, 2 no value: the evaluation failed", most=2),
    "place": Column("<i4", "1", "number of the parameter or value"),
    "number": Column("<f8", "1", "the parameter or value; nan: the evaluation failed"),
}

TABLES = {
    "arrivals": ARRIVALS,
    "updates": UPDATES,
    "progress": PROGRESS,
    "faults": FAULTS,
    "segments": SEGMENTS,
    "pauses": PAUSES,
    "phases": PHASES,
    "shuffles": SHUFFLES,
    "evaluations": EVALUATIONS,
}
"""Tables that grow during a run: name -> columns in the order of a row's values."""

OPTIONAL = "phases", "shuffles", "evaluations"
"""Tables of some traces only."""

WORKERS = {
    "host": Column("|O", "1", "host name"),
    "rank": Column("<i4", "1", "MPI rank"),
    "clock_offset_ns": Column("<i8", "ns", "the rank's clock minus rank 0's, at the start", **CLOCK),
    "clock_error_ns": Column("<i8", "ns", "bound on that offset's error"),
    "clock_t_ns": Column("<i8", "ns", "time of that measurement", **CLOCK),
    "end_clock_offset_ns": Column("<i8", "ns", "the rank's clock minus rank 0's, at the end", **CLOCK),
    "end_clock_error_ns": Column("<i8", "ns", "bound on that offset's error"),
    "end_clock_t_ns": Column("<i8", "ns", "time of that measurement; -1: unknown", **CLOCK),
}
"""Columns of `workers`, one row per rank. The `end_` columns are written when the trace is closed."""

DIMENSIONS = {
    "arrivals": "arrival",
    "updates": "version",
    "progress": "version",
    "faults": "fault",
    "segments": "segment",
    "pauses": "pause",
    "phases": "phase",
    "shuffles": "shuffle",
    "evaluations": "evaluation",
    "workers": "rank",
}
"""Dimension of a table's rows; a column of that name is its coordinate."""

ATTRIBUTES = {
    "arrivals": Attribute(str, values=("all", "sampled", "none")),
    "clock": Attribute(str, values=("real", "virtual")),
    **dict.fromkeys(("config", "config_resolved", "created", "creator"), Attribute(str)),
    **dict.fromkeys(("earlier_presets", "first_preset"), Attribute(str)),
    **dict.fromkeys(("git_commit", "mpi_library", "recorder", "run"), Attribute(str)),
    **dict.fromkeys(("finished", "numerics"), Attribute(bool)),
    **dict.fromkeys(("arithmetic", "costs", "schema_version"), Attribute(int, 1)),
    "sample": Attribute(int, 1, 2**31 - 1),
    "workers": Attribute(int, 0, 2**31 - 1),
    "task_ns": Attribute(int, 0, 2**62),
    **dict.fromkeys(
        ("gradient_bytes", "header_bytes", "parameters", "rows", "seed", "task_rows"), Attribute(int)
    ),
    "task_flops": Attribute(float, 1, 1e300),
    **dict.fromkeys(("step_flops", "arrival_flops", "dispatch_flops"), Attribute(float, 0, 1e300)),
    **dict.fromkeys(("setup_bytes_down", "setup_bytes_up"), Attribute(int, 0, 2**62)),
    **dict.fromkeys(("blocks", "rows_per_task", "weights"), Attribute(list, 0, 2**31 - 1)),
}
"""Root attributes that readers use; any may be missing."""


class Fact(NamedTuple):
    """A dataset of ``/data``."""

    kinds: str  # of its type, as numpy names them
    axis: str  # its dimension, of each of its axes
    description: str
    axes: int = 1


DATA = {
    "labels": Fact("biSO", "class", "labels of the classes, in the order of the model's outputs"),
    "mean": Fact("f", "input", "mean of each input of the training rows, subtracted first"),
    "deviation": Fact("f", "input", "standard deviation of each input, by which it is divided then"),
    "decorrelation": Fact("f", "input", "matrix by which inputs are multiplied then", 2),
    "target_mean": Fact("f", "target", "mean of each target of the training rows, subtracted first"),
    "target_scale": Fact("f", "scale", "what all targets are then divided by"),
    "columns": Fact("SO", "column", "names of the columns that are inputs"),
    "fill": Fact("f", "column", "what a missing number of each column becomes; text has no category then"),
    "categories": Fact("SO", "category", "texts of the columns of text, an input each, in their places"),
    "category_columns": Fact("i", "category", "number of the column of each category"),
}
"""Datasets of ``/data``; any may be missing. Its attributes are `features`, `outputs`."""

LAYERS = "blocks", "rows_per_task", "weights"
"""Root attributes that are lists with an entry per layer."""

CODE = {"family": Attribute(str), "weight": Attribute(int), "coherence": Attribute(float, -inf)}
"""Attributes of a code."""

COUNT = Attribute(int, 1, 2**31 - 1)

COUNTER = Attribute(float, 0, inf)
"""A time in s in ``/checkpoint``, which may be infinite; its other attributes are `Attribute(float)`."""

WORKER_CLOCK = ("t_start_ns", "t_compute_ns", "t_send_ns")
"""Columns of `arrivals` stamped by workers, moved to rank 0's clock by the offset at the start."""
