"""The virtual clock: when tasks reach workers, and when their replies reach rank 0.

Rank 0 has a processor and a link of limited bandwidth each way. Times are whole nanoseconds, so that a run is
the same on every machine.
"""

import math

import numpy
from libc.stdint cimport int32_t, int64_t, uint8_t

from pdcode.kernels.events cimport (
    DEAD, EVENTS_LAST, EVENTS_SLOT, EVENTS_WORKER_BITS, IDLE, OUT, errand, event, events_begin, events_pop,
    events_cancel, events_send, events_step, parts)

LAST = EVENTS_LAST
"""The end of time in ns, some 146 years: later times become this one."""

WORKERS = 1 << EVENTS_WORKER_BITS
"""The most that there can be."""

MANY = 200
"""Workers from which on a calendar pays."""

ERRAND = numpy.dtype([(name, "i8") for name in (
    "t_dispatch", "t_start", "t_compute", "t_send", "version", "task", "key", "state")])


cdef object aligned(Py_ssize_t count, Py_ssize_t size, Py_ssize_t at):
    """Zeroed bytes for `count` structs of `size`; number `at` begins a cache line."""
    raw = numpy.empty(count * size + 64, numpy.uint8)  # numpy.zeros asks for no huge pages
    raw.fill(0)
    start = -(raw.ctypes.data + at * size) % 64
    return raw[start : start + count * size]


cdef int64_t bounded(name, value, int64_t least) except? -1:
    if not least <= value <= LAST:
        raise ValueError(f"{name} is {value}: must be from {least} to {LAST}")
    return value


cdef class Events:
    """What is under way between rank 0 and n workers.

    Every task costs rank 0's processor `dispatch_ns`, and goes through its egress link to a worker, which
    computes, waits for its delay and replies. Replies pass rank 0's ingress link in the order in which they
    reach it (ties: in that of their dispatch), and each costs its processor `arrival_ns`. A byte takes
    1e9 / bandwidth ns, and messages `latency_ns` more. Tasks that are sent together may share a body, which
    then goes down a tree: rank 0 sends it to `fanout` workers, and these pass it on, `segment` bytes at a
    time. The body waits for the processor's work on those tasks only; what each worker has of its own follows
    through the link in turn.

    Parameters
    ----------
    workers : int
        n, at most 2**24.
    bytes_up : int
        Of a reply.
    bandwidth : float
        Bytes a second, each way.
    latency_ns, arrival_ns, dispatch_ns, update_ns : int
    half_duplex : bool
        Whether rank 0's link carries one message at a time, whichever its direction. A task that may leave
        goes before replies that are not passing yet; replies pass while the processor is busy.
    tree : bool
        Whether bodies go down a tree.
    fanout, segment : int
        Of the tree.

    Attributes
    ----------
    now_ns : int
        When rank 0's processor is next free; may be set.
    t_recv_ns : int
        When the last reply was received.
    ingress_ns, egress_ns : int
        How long each direction of rank 0's link was busy.
    outstanding : int
        Workers that have a task, dead ones too.
    dispatched, arrived : int
        Tasks sent, replies received.
    t_dispatch_ns, t_start_ns, t_compute_ns, t_send_ns : (n,) int64 arrays
        By worker, of its last task: rank 0 turned to it; it was there; it was done; its delay was over (-1
        for a worker that is dead). Views.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    def __init__(self, workers, bytes_up, bandwidth, latency_ns, arrival_ns=0, dispatch_ns=0, update_ns=0,
                 half_duplex=False, tree=False, fanout=2, segment=65536):
        if not 1 <= workers <= WORKERS:
            raise ValueError(f"workers is {workers}: must be from 1 to {WORKERS}")
        if not (bandwidth > 0 and math.isfinite(bandwidth)):
            raise ValueError(f"bandwidth is {bandwidth}: must be greater than 0, and finite")
        self.bandwidth, self.segment = bandwidth, bounded("segment", segment, 1)
        self.heap = aligned(workers + 4, sizeof(event), 1)
        self.errands = aligned(workers, sizeof(errand), 0).view(ERRAND)
        cdef unsigned char[::1] heap = self.heap, errands = self.errands.view(numpy.uint8)
        self.state.heap, self.state.errands = <event *> &heap[0], <errand *> &errands[0]
        self.state.workers = workers
        if workers >= MANY:
            self.state.ring = 1 << (workers // 4).bit_length()
        self.slots = aligned(self.state.ring, EVENTS_SLOT * sizeof(int32_t), 0).view(numpy.int32)
        self.counts = numpy.zeros(self.state.ring, numpy.uint8)
        cdef int32_t[::1] slots = self.slots
        cdef uint8_t[::1] counts = self.counts
        cdef int64_t[::1] inbox
        if half_duplex:
            self.inbox = numpy.zeros(2 * workers, numpy.int64)
            inbox = self.inbox
            self.state.inbox = <event *> &inbox[0]
        if self.state.ring:
            self.state.slots, self.state.counts = &slots[0], &counts[0]
        self.state.up = self.on_link(bytes_up)
        self.state.latency = bounded("latency_ns", latency_ns, 0)
        self.state.arrival = bounded("arrival_ns", arrival_ns, 0)
        self.state.dispatch = bounded("dispatch_ns", dispatch_ns, 0)
        self.state.update = bounded("update_ns", update_ns, 0)
        self.state.half_duplex, self.state.tree = bool(half_duplex), bool(tree)
        self.state.fanout = bounded("fanout", fanout, 1)
        events_begin(&self.state)

    cdef int64_t on_link(self, size) except -1:
        """Time in ns that a message takes on rank 0's link."""
        if size < 0:
            raise ValueError(f"a message of {size} bytes: must be at least 0")
        return min(round(1e9 * size / self.bandwidth), LAST)

    cdef parts on_links(self, body_bytes, own_bytes) except *:
        """Times of a task's parts."""
        cdef parts times
        times.body, times.own = self.on_link(body_bytes), self.on_link(own_bytes)
        times.both = self.on_link(body_bytes + own_bytes)
        times.piece = self.on_link(min(body_bytes, self.segment))
        return times

    @property
    def now_ns(self):
        return self.state.now

    @now_ns.setter
    def now_ns(self, value):
        self.state.now = bounded("now_ns", value, 0)

    @property
    def t_recv_ns(self):
        return self.state.t_recv

    @property
    def ingress_ns(self):
        return self.state.ingress

    @property
    def egress_ns(self):
        return self.state.egress

    @property
    def dispatched(self):
        return self.state.dispatched

    @property
    def arrived(self):
        return self.state.arrived

    @property
    def outstanding(self):
        return self.state.dispatched - self.state.arrived

    @property
    def t_dispatch_ns(self):
        return self.errands["t_dispatch"]

    @property
    def t_start_ns(self):
        return self.errands["t_start"]

    @property
    def t_compute_ns(self):
        return self.errands["t_compute"]

    @property
    def t_send_ns(self):
        return self.errands["t_send"]

    def send(self, const int32_t[::1] workers, const int64_t[::1] compute_ns, const int64_t[::1] delay_ns,
             body_bytes, own_bytes, bytes_up=None):
        """Send tasks of one version, which leave together.

        Parameters
        ----------
        workers : array (m,), int32
            Who gets one, in this order; none has a task.
        compute_ns, delay_ns : arrays (m,), int64
            Of each; a delay below 0 is that of a dead worker, which never replies.
        body_bytes, own_bytes : int
            What all get, and what each gets of its own.
        bytes_up : int, optional
            Size of their replies, if it is not that of all.

        Raises
        ------
        ValueError
            If lengths differ, a worker does not exist or has a task, or a number is out of its range. Then
            nothing is sent.
        """
        cdef Py_ssize_t i, done = 0, count = workers.shape[0]
        cdef parts times = self.on_links(body_bytes, own_bytes)
        cdef bint fits = True
        cdef int64_t[::1] ups
        if compute_ns.shape[0] != count or delay_ns.shape[0] != count:
            raise ValueError(f"{count} workers, {compute_ns.shape[0]} times in compute_ns and "
                             f"{delay_ns.shape[0]} in delay_ns: must be as many")
        if count == 0:
            return
        while done < count and fits:
            fits = 0 <= workers[done] < self.state.workers and 0 <= compute_ns[done] <= EVENTS_LAST \
                and delay_ns[done] <= EVENTS_LAST and self.state.errands[workers[done]].state == IDLE
            if fits:
                self.state.errands[workers[done]].state = OUT  # a worker may not be named twice
                done += 1
        if fits:
            if bytes_up is not None:
                if self.ups is None:
                    self.ups = numpy.full(self.state.workers, self.state.up, numpy.int64)
                    ups = self.ups
                    self.state.ups = &ups[0]
                self.ups[numpy.asarray(workers)] = self.on_link(bytes_up)
            events_send(&self.state, &times, count, &workers[0], &compute_ns[0], &delay_ns[0])
            return
        for i in range(done):
            self.state.errands[workers[i]].state = IDLE
        if not 0 <= workers[done] < self.state.workers:
            raise ValueError(f"worker {workers[done]}: must be from 0 to {self.state.workers - 1}")
        bounded(f"compute_ns of worker {workers[done]}", compute_ns[done], 0)
        bounded(f"delay_ns of worker {workers[done]}", delay_ns[done], -LAST)
        raise ValueError(f"worker {workers[done]} has a task already")

    def pop(self, int64_t limit_ns=EVENTS_LAST):
        """Receive the next reply.

        Parameters
        ----------
        limit_ns : int, optional
            Latest time at which it may be received.

        Returns
        -------
        int
            The worker; rank 0's processor is free when the reply has been taken in. -1 if there is no reply
            up to the limit: the clock then stands at it, or where it was, if later or without a limit.
        """
        return events_pop(&self.state, min(limit_ns, EVENTS_LAST))

    def cancel(self, int64_t worker):
        """Let a dead worker reply now, or as soon as it has computed.

        Raises
        ------
        ValueError
            If it is not a dead worker with a task.
        """
        if not 0 <= worker < self.state.workers or self.state.errands[worker].state != DEAD:
            raise ValueError(f"worker {worker} is not dead")
        events_cancel(&self.state, worker)

    def step(self):
        """Rank 0's processor makes an update."""
        events_step(&self.state)
