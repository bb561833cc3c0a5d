"""Timing-only coordinator loop: the update and time at which each arrival is used."""

import numpy
from libc.stdint cimport int32_t, int64_t, uint64_t

from pdcode.kernels.events cimport EVENTS_LAST, Events
from pdcode.kernels.rounds cimport (
    ROUNDS_ARRIVAL, ROUNDS_DONE, ROUNDS_DRAW, ROUNDS_DRY, ROUNDS_FULL, ROUNDS_MARK, ROUNDS_PAUSED,
    ROUNDS_STUCK, ROUNDS_UPDATE, rounds, rounds_run)

DONE, DRY, FULL, PAUSED, STUCK = ROUNDS_DONE, ROUNDS_DRY, ROUNDS_FULL, ROUNDS_PAUSED, ROUNDS_STUCK
"""Return values of `Rounds.run`: the run is over; delays must be drawn; the records are full; `most` arrivals
are done; only dead workers have tasks, and no time limit ends the run."""

ARRIVAL = ("worker", "task", "version", "applied_version", "staleness", "t_dispatch_ns", "t_start_ns",
           "t_compute_ns", "t_send_ns", "t_recv_ns", "t_decoded_ns", "injected_delay_ns", "status")
UPDATE = ("version", "t_ns", "n_used")
"""Columns of the records, as in a trace."""

MOST = 2**63 - 1


cdef class Rounds:
    """Loop of `pdcode.training.coordinator.Coordinator` over a virtual clock, without numerics.

    Parameters
    ----------
    events : Events
        Event queue, before the first task.
    compute_ns : array (1,) or (n,), int64
        Compute time of a task, for all workers or for each.
    ring : int
        Delays buffered per worker, a power of two, at least 2. Half of them are drawn at a time.
    body_bytes, own_bytes : int
        Bytes of a task common to all workers, and specific to each.
    wanted : int, optional
        Payloads per update; default: one from every worker with a task. An update that cannot get more
        payloads uses those it has.
    waste : bool
        Whether stale payloads are dropped.
    updates, until_ns : int, optional
        The run ends after `updates` updates, or when rank 0 is free at or after `until_ns`.
    drain_ns : int, optional
        Longest wait, after the end, for the replies to tasks in flight; default: until all have arrived.
    every : int
        Record every `every`-th task of each worker; 0 for none.
    room : int
        Capacity of the record, in arrivals and in updates.

    Attributes
    ----------
    version : int
        Number of updates.
    outcomes : tuple of int
        Arrivals used, wasted (stale) and drained (after the end).
    stopped_ns : int
        Time at which the run ended; -1 before.
    """

    cdef rounds state
    cdef Events events
    cdef object compute, delays, waiting, marks, records, updates, drawn

    def __init__(self, Events events, const int64_t[::1] compute_ns, int64_t ring, body_bytes, own_bytes,
                 wanted=None, waste=False, updates=None, until_ns=None, drain_ns=None, every=0,
                 room=4096):
        cdef int64_t n = events.state.workers
        if compute_ns.shape[0] not in (1, n):
            raise ValueError(f"compute_ns has {compute_ns.shape[0]} times: must be 1 or {n}")
        if numpy.min(compute_ns) < 0 or numpy.max(compute_ns) > EVENTS_LAST:
            raise ValueError(f"compute_ns: must be from 0 to {EVENTS_LAST}")
        if ring < 2 or ring & (ring - 1):
            raise ValueError(f"ring is {ring}: must be a power of two, and at least 2")
        if events.state.dispatched:
            raise ValueError("tasks have been sent before")
        for name, value, least in (("wanted", wanted, 1), ("updates", updates, 1), ("until_ns", until_ns, 1),
                                   ("drain_ns", drain_ns, 0), ("every", every, 0), ("room", room, 1)):
            if value is not None and not least <= value <= EVENTS_LAST:
                raise ValueError(f"{name} is {value}: must be from {least} to {EVENTS_LAST}")
        self.events, self.compute = events, compute_ns
        self.state.events = &events.state
        self.state.parts = events.on_links(body_bytes, own_bytes)
        self.state.compute, self.state.compute_step = &compute_ns[0], compute_ns.shape[0] > 1
        events.state.kept = ring
        self.delays = numpy.full((2 * n, ring // 2), ROUNDS_DRAW, numpy.int64)
        self.waiting = numpy.arange(n, dtype=numpy.int32)
        self.marks = numpy.zeros((n + ROUNDS_MARK - 1) // ROUNDS_MARK, numpy.uint64)
        self.records = numpy.empty((room if every else 1, ROUNDS_ARRIVAL), numpy.int64)
        self.updates = numpy.empty((room, ROUNDS_UPDATE), numpy.int64)
        self.drawn = numpy.zeros(n, numpy.int64)
        cdef int64_t[:, ::1] delays = self.delays, records = self.records, made = self.updates
        cdef int32_t[::1] waiting = self.waiting
        cdef uint64_t[::1] marks = self.marks
        self.state.arrivals, self.state.steps_made = &records[0, 0], &made[0, 0]
        events.state.delays = &delays[0, 0]
        self.state.waiting, self.state.marks = &waiting[0], &marks[0]
        self.state.idle, self.state.first = n, 0
        self.state.wanted = MOST if wanted is None else wanted
        self.state.waste = bool(waste)
        self.state.updates = MOST if updates is None else updates
        self.state.until = MOST if until_ns is None else until_ns
        self.state.drain = EVENTS_LAST if drain_ns is None else drain_ns
        self.state.stop = -1
        self.state.every, self.state.room = every, room

    @property
    def version(self):
        return self.state.version

    @property
    def outcomes(self):
        return tuple(self.state.outcomes)

    @property
    def stopped_ns(self):
        return self.state.stop

    def run(self, int64_t most=MOST):
        """Continue the run, for at most so many arrivals; return DONE, DRY, FULL, PAUSED or STUCK."""
        cdef int why
        with nogil:
            why = rounds_run(&self.state, most)
        return why

    def short(self):
        """Return the workers that have used half of their delays, and the first task to draw for each."""
        workers = numpy.flatnonzero(self.drawn - self.events.flights["task"] <= self.events.state.kept // 2)
        return workers, self.drawn[workers]

    def fill(self, workers, const int64_t[:, ::1] delays_ns):
        """Supply the delays of the next tasks, shape (m, ring / 2), of m workers that `short` returned.

        They are negative for a dead worker.
        """
        cdef int64_t half = self.events.state.kept // 2
        first = self.drawn[workers]
        if delays_ns.shape[0] != len(workers) or delays_ns.shape[1] != half:
            raise ValueError(f"delays_ns is ({delays_ns.shape[0]}, {delays_ns.shape[1]}): must be "
                             f"({len(workers)}, {half})")
        if (first - self.events.flights["task"][workers] > half).any():
            raise ValueError("a worker has used less than half of its delays")
        values = numpy.asarray(delays_ns)
        if values.size and (values.min() < -EVENTS_LAST or values.max() > EVENTS_LAST):
            raise ValueError(f"delays_ns: must be up to {EVENTS_LAST}")
        self.delays[2 * workers + first // half % 2] = values
        self.drawn[workers] = first + half

    def arrivals(self):
        """Take the recorded arrivals, shape (count, len(ARRIVAL)), int64; valid until `run`."""
        count, self.state.rows = self.state.rows, 0
        return self.records[:count]

    def steps(self):
        """Take the recorded updates, shape (count, len(UPDATE)), int64; valid until `run`."""
        count, self.state.steps = self.state.steps, 0
        return self.updates[:count]
