"""The coordinator's loop without its numerics: which arrival is used in which update, and when."""

import numpy
from libc.stdint cimport int32_t, int64_t, uint64_t

from pdcode.kernels.events cimport EVENTS_LAST, Events
from pdcode.kernels.rounds cimport (
    ROUNDS_ARRIVAL, ROUNDS_DONE, ROUNDS_DRAW, ROUNDS_DRY, ROUNDS_FULL, ROUNDS_MARK, ROUNDS_PAUSED,
    ROUNDS_STUCK, ROUNDS_UPDATE, rounds, rounds_run)

DONE, DRY, FULL, PAUSED, STUCK = ROUNDS_DONE, ROUNDS_DRY, ROUNDS_FULL, ROUNDS_PAUSED, ROUNDS_STUCK
"""Why `Rounds.run` returns: the run is over; delays must be drawn; the records must be emptied; as many
arrivals as asked for; only dead workers have tasks, and nothing ends the run."""

ARRIVAL = ("worker", "task", "version", "applied_version", "staleness", "t_dispatch_ns", "t_start_ns",
           "t_compute_ns", "t_send_ns", "t_recv_ns", "t_decoded_ns", "injected_delay_ns", "status")
UPDATE = ("version", "t_ns", "n_used")
"""Columns of the records, as in a trace."""

MOST = 2**63 - 1


cdef class Rounds:
    """Updates of n workers over a virtual clock, as `pdcode.training.coordinator.Coordinator` makes them.

    Parameters
    ----------
    events : Events
        The clock; nothing has been sent.
    compute_ns : array (1,) or (n,), int64
        Of a task, of all workers or of each.
    ring : int
        Delays that are kept of each worker, a power of two and at least 2. They are drawn by half of that.
    body_bytes, own_bytes : int
        Of a task: what all get, and what each gets of its own.
    wanted : int, optional
        Payloads of an update; if not given, those of all that have tasks. An update that can get no more is
        made of what there is.
    waste : bool
        Whether payloads of older θ are not used.
    updates, until_ns : int, optional
        The run is over after so many updates, or at `until_ns`, or when rank 0 is next free after that.
    every : int
        Of each worker the record has every so many tasks; 0 for none.
    room : int
        Arrivals, and updates, that the record has room for.

    Attributes
    ----------
    version : int
        Updates made.
    fresh : int
        Payloads since the last.
    outcomes : tuple of int
        Arrivals that were used, wasted (late), and drained (after the end).
    stopped_ns : int
        When it was found that the run is over; -1 before.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    cdef rounds state
    cdef Events events
    cdef object compute, delays, waiting, marks, records, updates, drawn

    def __init__(self, Events events, const int64_t[::1] compute_ns, int64_t ring, body_bytes, own_bytes,
                 wanted=None, waste=False, updates=None, until_ns=None, every=0, room=4096):
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
                                   ("every", every, 0), ("room", room, 1)):
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
        self.state.stop = -1
        self.state.every, self.state.room = every, room

    @property
    def version(self):
        return self.state.version

    @property
    def fresh(self):
        return self.state.fresh

    @property
    def outcomes(self):
        return tuple(self.state.outcomes)

    @property
    def stopped_ns(self):
        return self.state.stop

    def run(self, int64_t most=MOST):
        """Go on.

        Parameters
        ----------
        most : int, optional
            Arrivals after which to return, if nothing is wanting before.

        Returns
        -------
        int
            DONE, DRY, FULL, PAUSED or STUCK.
        """
        cdef int why
        with nogil:
            why = rounds_run(&self.state, most)
        return why

    def short(self):
        """Workers who have used half of their delays, and the first of their tasks that is to be drawn.

        Returns
        -------
        workers, first : arrays (m,), int64
        """
        workers = numpy.flatnonzero(self.drawn - self.events.errands["task"] <= self.events.state.kept // 2)
        return workers, self.drawn[workers]

    def fill(self, workers, const int64_t[:, ::1] delays_ns):
        """Take delays in.

        Parameters
        ----------
        workers : array (m,), int64
            Some of those of `short`, each once.
        delays_ns : array (m, ring / 2), int64
            Of their next tasks; below 0 for a worker that never answers.

        Raises
        ------
        ValueError
            If shapes do not fit, a delay is out of its range, or a worker has too many already.
        """
        cdef int64_t half = self.events.state.kept // 2
        first = self.drawn[workers]
        if delays_ns.shape[0] != len(workers) or delays_ns.shape[1] != half:
            raise ValueError(f"delays_ns is ({delays_ns.shape[0]}, {delays_ns.shape[1]}): must be "
                             f"({len(workers)}, {half})")
        if (first - self.events.errands["task"][workers] > half).any():
            raise ValueError("a worker has used less than half of its delays")
        values = numpy.asarray(delays_ns)
        if values.size and (values.min() < -EVENTS_LAST or values.max() > EVENTS_LAST):
            raise ValueError(f"delays_ns: must be up to {EVENTS_LAST}")
        self.delays[2 * workers + first // half % 2] = values
        self.drawn[workers] = first + half

    def arrivals(self):
        """The recorded arrivals (count, len(ARRIVAL)), int64, which are then forgotten: valid until `run`."""
        count, self.state.rows = self.state.rows, 0
        return self.records[:count]

    def steps(self):
        """The recorded updates (count, len(UPDATE)), int64, which are then forgotten: valid until `run`."""
        count, self.state.steps = self.state.steps, 0
        return self.updates[:count]
