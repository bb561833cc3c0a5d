"""Event queue of the virtual clock: arrival times of tasks at workers and of replies at rank 0.

Rank 0 has a processor, and a link of limited bandwidth each way. Times are integers in ns: a run is identical
on every machine.
"""

import math

import numpy
from libc.stdint cimport int32_t, int64_t, uint8_t

from pdcode.kernels.events cimport (
    CANCELLED, DEAD, EVENTS_LAST, EVENTS_MEDIUM, EVENTS_SLOT, EVENTS_WORKER_BITS, IDLE, OUT, event, events,
    events_begin, events_cancel, events_follow, events_pop, events_postpone, events_put, events_send,
    events_step, in_flight, parts)

LAST = EVENTS_LAST
"""Largest representable time (int64 ns, 146 years); later times saturate."""

WORKERS = 1 << EVENTS_WORKER_BITS
"""Maximum number of workers."""

MANY = 200
"""Number of workers from which a calendar queue pays off."""

IN_FLIGHT = numpy.dtype([(name, "i8") for name in (
    "t_dispatch", "t_start", "t_compute", "t_send", "version", "task", "key", "state")])


cdef object aligned(Py_ssize_t count, Py_ssize_t size, Py_ssize_t at):
    """Allocate zeroed bytes for `count` structs of `size`, with number `at` at the start of a cache line."""
    raw = numpy.empty(count * size + 64, numpy.uint8)  # numpy.zeros does not use huge pages
    raw.fill(0)
    start = -(raw.ctypes.data + at * size) % 64
    return raw[start : start + count * size]


cdef int64_t bounded(name, value, int64_t least) except? -1:
    if not least <= value <= LAST:
        raise ValueError(f"{name} is {value}: must be from {least} to {LAST}")
    return value


cdef class Events:
    """Tasks and replies in flight between rank 0 and n workers.

    Every task costs rank 0's processor `dispatch_ns`, and goes through its egress link to a worker, which
    computes, waits for its delay and replies. Replies pass rank 0's ingress link in order of arrival (ties:
    in order of dispatch), and each costs its processor `arrival_ns`, and 1e9 / decode_bandwidth ns a byte. On
    the links a byte takes 1e9 / bandwidth ns, and a message `latency_ns` more. Tasks that are sent together
    may share a body, which is then broadcast down a tree: rank 0 sends it to `fanout` workers, which forward
    it in pieces of `segment` bytes. The body waits for the processor's work on those tasks only; the bytes
    specific to each worker follow through the link. On a medium (`tree` 2) a body leaves once, and all
    workers have it at the same time.

    Parameters
    ----------
    workers : int
        n, at most 2**24.
    bytes_up : int
        Bytes of a reply.
    bandwidth : float
        Bytes per second, each way.
    latency_ns, arrival_ns, dispatch_ns, update_ns : int
    half_duplex : bool
        Whether rank 0's link carries one message at a time, in either direction. A task that may leave has
        priority over replies that are not passing yet; replies pass while the processor is busy.
    tree : int
        Whether bodies are broadcast: 0 not, 1 down a tree, 2 by a medium.
    fanout, segment : int
        Children per node, and bytes forwarded at a time.
    decode_bandwidth : float
        Bytes per second of replies that the processor decodes; may be infinite.
    exchanged : int, optional
        Bytes of a message to each other worker, which a worker sends after its reply, one after the other,
        over a link as rank 0's. A task then begins when its worker has messages of all replies that rank 0
        has received before it.

    Attributes
    ----------
    now_ns : int
        Time at which rank 0's processor is free; may be set.
    t_recv_ns : int
        Time at which the last reply was received.
    ingress_ns, egress_ns : int
        Busy time of each direction of rank 0's link.
    outstanding : int
        Replies in flight, including replies of dead workers.
    dispatched, arrived : int
        Replies requested, a task's first and the ones of `follow`, and replies received.
    deaf : (n,) uint8 array or None
        Workers that receive nothing from the others; may be set.
    t_dispatch_ns, t_start_ns, t_compute_ns, t_send_ns : (n,) int64 arrays
        Times of each worker's last reply: dispatch of the task; arrival of the task at the worker, or of the
        previous reply at the link; end of the computation; end of the delay (-1 for a dead worker). Views.
    """

    def __init__(self, workers, bytes_up, bandwidth, latency_ns, arrival_ns=0, dispatch_ns=0, update_ns=0,
                 half_duplex=False, tree=0, fanout=2, segment=65536, decode_bandwidth=math.inf,
                 exchanged=None):
        if not 1 <= workers <= WORKERS:
            raise ValueError(f"workers is {workers}: must be from 1 to {WORKERS}")
        if not (bandwidth > 0 and math.isfinite(bandwidth)):
            raise ValueError(f"bandwidth is {bandwidth}: must be greater than 0, and finite")
        if not decode_bandwidth > 0:
            raise ValueError(f"decode_bandwidth is {decode_bandwidth}: must be greater than 0")
        self.bandwidth, self.decode_bandwidth = bandwidth, decode_bandwidth
        self.segment = bounded("segment", segment, 1)
        self.arrival = bounded("arrival_ns", arrival_ns, 0)
        self.heap = aligned(workers + 4, sizeof(event), 1)
        self.flights = aligned(workers, sizeof(in_flight), 0).view(IN_FLIGHT)
        cdef unsigned char[::1] heap = self.heap, flights = self.flights.view(numpy.uint8)
        self.state.heap, self.state.flights = <event *> &heap[0], <in_flight *> &flights[0]
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
        cdef int64_t[:, ::1] own
        cdef uint8_t[::1] deaf
        if exchanged is not None:
            self.state.peer = self.on_link(exchanged)
            self.deaf = numpy.zeros(workers, numpy.uint8)
            self.own = numpy.zeros((1 if half_duplex else 2, workers), numpy.int64)
            own, deaf = self.own, self.deaf
            self.state.heard, self.state.spoken = &own[0, 0], &own[own.shape[0] - 1, 0]
            self.state.deaf = &deaf[0]
        self.state.up = self.on_link(bytes_up)
        self.state.latency = bounded("latency_ns", latency_ns, 0)
        self.state.arrival = self.at_processor(bytes_up)
        self.state.dispatch = bounded("dispatch_ns", dispatch_ns, 0)
        self.state.update = bounded("update_ns", update_ns, 0)
        self.state.half_duplex, self.state.tree = bool(half_duplex), tree
        self.state.fanout = 1 if tree == EVENTS_MEDIUM else bounded("fanout", fanout, 1)
        events_begin(&self.state)

    cdef int64_t on_link(self, size) except -1:
        """Return the time in ns of a message on rank 0's link."""
        if size < 0:
            raise ValueError(f"a message of {size} bytes: must be at least 0")
        return min(round(1e9 * size / self.bandwidth), LAST)

    cdef int64_t at_processor(self, size) except -1:
        """Return the time in ns of a reply at rank 0's processor."""
        return min(self.arrival + round(1e9 * size / self.decode_bandwidth), LAST)

    cdef parts on_links(self, body_bytes, own_bytes) except *:
        """Return the link times of a task's parts."""
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

    def time_ns(self):
        """Return `now_ns`, in less time."""
        return self.state.now

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
        return self.flights["t_dispatch"]

    @property
    def t_start_ns(self):
        return self.flights["t_start"]

    @property
    def t_compute_ns(self):
        return self.flights["t_compute"]

    @property
    def t_send_ns(self):
        return self.flights["t_send"]

    def send(self, const int32_t[::1] workers, const int64_t[::1] compute_ns, const int64_t[::1] delay_ns,
             body_bytes, own_bytes, bytes_up=None):
        """Send tasks of one version together to idle workers, in this order; none if arguments do not fit.

        A negative delay marks a dead worker, which never replies. `body_bytes` are common to all tasks, and
        `own_bytes` specific to each; `bytes_up` of a reply are by default the constructor's.
        """
        cdef Py_ssize_t count = workers.shape[0]
        if compute_ns.shape[0] != count or delay_ns.shape[0] != count:
            raise ValueError(f"{count} workers, {compute_ns.shape[0]} times in compute_ns and "
                             f"{delay_ns.shape[0]} in delay_ns: must be as many")
        if count:
            self.depart(count, &workers[0], &compute_ns[0], &delay_ns[0], body_bytes, own_bytes, bytes_up)

    def send_one(self, int32_t worker, int64_t compute_ns, int64_t delay_ns, body_bytes, own_bytes,
                 bytes_up=None):
        """Send one task, as `send` would; arguments are numbers."""
        self.depart(1, &worker, &compute_ns, &delay_ns, body_bytes, own_bytes, bytes_up)

    cdef int depart(self, Py_ssize_t count, const int32_t *workers, const int64_t *compute_ns,
                    const int64_t *delay_ns, body_bytes, own_bytes, bytes_up) except -1:
        cdef Py_ssize_t i, done = 0
        cdef bint fits = True
        if (body_bytes, own_bytes) != self.sizes:
            self.times, self.sizes = self.on_links(body_bytes, own_bytes), (body_bytes, own_bytes)
        while done < count and fits:
            fits = 0 <= workers[done] < self.state.workers and 0 <= compute_ns[done] <= EVENTS_LAST \
                and delay_ns[done] <= EVENTS_LAST and self.state.flights[workers[done]].state == IDLE
            if fits:
                self.state.flights[workers[done]].state = OUT  # to detect repeated workers
                done += 1
        if fits:
            if bytes_up is not None:
                self.own_sizes()
                for i in range(count):
                    self.state.ups[workers[i]] = self.on_link(bytes_up)
                    self.state.arrivals[workers[i]] = self.at_processor(bytes_up)
            events_send(&self.state, &self.times, count, workers, compute_ns, delay_ns)
            return 0
        for i in range(done):
            self.state.flights[workers[i]].state = IDLE
        if not 0 <= workers[done] < self.state.workers:
            raise ValueError(f"worker {workers[done]}: must be from 0 to {self.state.workers - 1}")
        bounded(f"compute_ns of worker {workers[done]}", compute_ns[done], 0)
        bounded(f"delay_ns of worker {workers[done]}", delay_ns[done], -LAST)
        raise ValueError(f"worker {workers[done]} has a task already")

    cdef int own_sizes(self) except -1:
        """Give each worker a size of replies of its own."""
        cdef int64_t[::1] ups, arrivals
        if self.ups is None:
            self.ups = numpy.full(self.state.workers, self.state.up, numpy.int64)
            self.arrivals = numpy.full(self.state.workers, self.state.arrival, numpy.int64)
            ups, arrivals = self.ups, self.arrivals
            self.state.ups, self.state.arrivals = &ups[0], &arrivals[0]
        return 0

    def last_times(self, Py_ssize_t worker):
        """Return `t_start_ns`, `t_compute_ns` and `t_send_ns` of a worker, which must exist."""
        if not 0 <= worker < self.state.workers:
            raise ValueError(f"worker {worker}: must be from 0 to {self.state.workers - 1}")
        cdef in_flight *flight = self.state.flights + worker
        return flight.t_start, flight.t_compute, flight.t_send

    def follow(self, worker, compute_ns, delay_ns):
        """Let a worker whose last reply `pop` has returned compute another reply to the same task.

        It begins where the last one was sent, and costs no dispatch. On a half-duplex link it does not pass
        before rank 0 has received the last one.
        """
        bounded("compute_ns", compute_ns, 0)
        bounded("delay_ns", delay_ns, 0)
        if not 0 <= worker < self.state.workers:
            raise ValueError(f"worker {worker}: must be from 0 to {self.state.workers - 1}")
        if self.state.flights[worker].state != IDLE:
            raise ValueError(f"worker {worker} has a reply in flight")
        events_follow(&self.state, worker, compute_ns, delay_ns)

    def pop(self, int64_t limit_ns=EVENTS_LAST):
        """Receive the next reply, at `limit_ns` at the latest; return its worker.

        `now_ns` is then the end of the reply's processing. Without a reply up to a limit, the result is -1,
        and `now_ns` advances to the limit.
        """
        return events_pop(&self.state, min(limit_ns, EVENTS_LAST))

    def cancel(self, bint cut=True):
        """Let dead workers with a task, and with `cut` workers in a delay, reply once they have computed."""
        events_cancel(&self.state, cut)

    def postpone(self, worker, start_ns, compute_ns, send_ns):
        """Set the times of the reply that a worker has in flight.

        With a negative `send_ns` the reply never comes, and the worker is idle.
        """
        bounded("start_ns", start_ns, 0)
        bounded("compute_ns", compute_ns, 0)
        bounded("send_ns", send_ns, -LAST)
        if not 0 <= worker < self.state.workers:
            raise ValueError(f"worker {worker}: must be from 0 to {self.state.workers - 1}")
        if self.state.flights[worker].state == IDLE:
            raise ValueError(f"worker {worker} has no reply in flight")
        events_postpone(&self.state, worker, start_ns, compute_ns, send_ns)

    def step(self):
        """Advance rank 0's processor by the time of an update."""
        events_step(&self.state)

    def state_dict(self):
        """Return a copy of the state: arrays of int64, or None for missing ones."""
        cdef events *e = &self.state
        numbers = numpy.array([e.now, e.in_free, e.out_free, e.ingress, e.egress, e.t_recv, e.dispatched,
                               e.arrived, e.dead, e.oldest, e.held])
        arrays = {"flights": self.flights.view(numpy.int64), "inbox": self.inbox, "ups": self.ups,
                  "arrivals": self.arrivals, "own": self.own, "deaf": self.deaf}
        return {"numbers": numbers} | {
            name: None if each is None else each.reshape(-1).copy() for name, each in arrays.items()}

    def load_state_dict(self, state):
        """Set the state to one that `state_dict` returned for a queue with the same arguments.

        After an error the queue is unusable.
        """
        cdef events *e = &self.state
        cdef Py_ssize_t i, place
        cdef int64_t[::1] numbers, inbox
        if state["ups"] is not None:
            self.own_sizes()
        arrays = {"flights": self.flights.view(numpy.int64), "inbox": self.inbox, "ups": self.ups,
                  "arrivals": self.arrivals, "own": self.own, "deaf": self.deaf}
        for name, mine in arrays.items():
            its = state[name]
            if mine is not None:
                if numpy.any(its > LAST) or numpy.any(its < -LAST):
                    raise ValueError("a time out of range")
                mine.reshape(-1)[:] = its
        numbers = numpy.array(state["numbers"], numpy.int64)
        workers = numpy.arange(e.workers)
        keys = self.flights["key"]
        keys &= ~(WORKERS - 1)
        keys |= workers
        if not numpy.all((self.flights["state"] >= IDLE) & (self.flights["state"] <= CANCELLED)):
            raise ValueError("a state of a worker that there is not")
        e.now, e.in_free, e.out_free, e.ingress, e.egress = (
            bounded("a time", each, 0) for each in numbers[:5])
        e.t_recv, e.dispatched, e.arrived = (bounded("a number", each, 0) for each in numbers[5:8])
        e.dead = numpy.count_nonzero(self.flights["state"] == DEAD)
        e.oldest, e.held = numbers[9], numbers[10]
        if not 0 <= e.oldest < max(1, e.workers) or not 0 <= e.held <= (e.workers if e.inbox else 0):
            raise ValueError("more replies past the link than workers")
        e.size = e.hole = e.filed = 0
        self.counts.fill(0)
        events_begin(e)
        held = set()
        if e.held:
            inbox = self.inbox
            for i in range(e.held):
                place = (e.oldest + i) % e.workers
                worker = inbox[2 * place + 1] & (WORKERS - 1)
                if not worker < e.workers:
                    raise ValueError(f"worker {worker}: must be from 0 to {e.workers - 1}")
                held.add(worker)
        for i in range(e.workers):
            if e.flights[i].state in (OUT, CANCELLED) and i not in held:
                events_put(e, i)
