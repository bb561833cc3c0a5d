"""Counts of rank 0 at every reply: records of the workers, and of the update under way.

`pdcode.training.roster` and `pdcode.training.update` add rarer events.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

from pdcode.kernels.arrays cimport data_ptr, dim, is_writable
from pdcode.kernels.headers cimport Received

import numpy as np

cnp.import_array()

STATES = IDLE, BUSY, OVERDUE, MISSING, DEAD, LEFT, STOPPED = range(7)

cdef enum:
    IS_IDLE = 0
    IS_BUSY = 1
    DROPPED = 2

RETURNED = DROPPED
"""Flag of a task: the worker's last payload was dropped."""


cdef class Clock:
    """Clock that shows the time since a start.

    Parameters
    ----------
    read : callable
        Returns the time of a clock, in ns.
    start_ns : int
        On that clock.
    """

    def __init__(self, read, start_ns):
        self.read, self.start_ns = read, start_ns

    def now_ns(self):
        """Return the time since the start, in ns."""
        return <int64_t> self.read() - self.start_ns


cdef class RecentTimes:
    """The last times of each worker.

    Parameters
    ----------
    workers, most : int
        Number of times that are kept of each.

    Attributes
    ----------
    counts : list of int
        Times of each worker so far.
    kept_ns : ndarray, shape (workers, most)
        The last of them, in no order; nan: none yet.
    """

    def __init__(self, workers, most):
        self.counts = [0] * workers
        self.kept_ns = np.full((workers, most), np.nan)

    @property
    def kept_ns(self):
        return self.array

    @kept_ns.setter
    def kept_ns(self, array):
        if not is_writable(array, cnp.NPY_FLOAT64, 2):
            raise ValueError("the last times must be a matrix of float64")
        self.array, self.kept = array, <double *> data_ptr(array)
        self.workers, self.most = dim(array, 0), dim(array, 1)

    def add(self, worker, time_ns):
        """Add a time of a worker."""
        self.put(worker, time_ns)

    cdef int put(self, Py_ssize_t worker, double time_ns) except -1:
        if not 0 <= worker < self.workers:
            raise IndexError(f"worker {worker} is none of {self.workers}")
        cdef int64_t count = self.counts[worker]
        self.kept[worker * self.most + count % self.most] = time_ns
        self.counts[worker] = count + 1
        return 0


cdef class WorkerCounters:
    """State and counters of each worker, in lists with an entry for each.

    Attributes
    ----------
    states : list of int
        IDLE, BUSY, OVERDUE, MISSING, DEAD, LEFT or STOPPED, see `pdcode.training.roster`.
    tasks, replies : list of int
        Tasks sent, and tasks answered to the last message.
    awaited : list of int
        Messages that the task in flight will still bring.
    flags : list of int
        Flags of the next task.
    sent_ns, begun_ns : list of int
        When the last task was sent, on rank 0's clock, and the event at which it was.
    busy_ns : list of int
        Total time from dispatch to arrival.
    idle : list of int
        Idle workers, in the order in which they became idle.
    fates : list of int
        Number of payloads by fate, see `trace.schema.FATES`.
    unsaved : set of int
        Workers that have not written their part of the last checkpoint.
    arrivals, outstanding : int
        Messages received, and awaited of all workers.
    overdue_count : int
        Number of workers that are OVERDUE.
    times : RecentTimes
        Of tasks, from the event at which they were sent to the reply's arrival.
    own_times : RecentTimes
        Of tasks, from their start at the worker to the sending of the reply.
    """

    cpdef int answered(self, Received reply, int fate, bint used) except -1:
        """Count a reply and its fate; after the last message of a task its worker is idle."""
        cdef Py_ssize_t worker = reply.worker
        cdef int64_t flags = <int64_t> self.flags[worker] & ~DROPPED
        self.arrivals += 1
        self.outstanding -= 1
        self.awaited[worker] = <int64_t> self.awaited[worker] - 1
        self.fates[fate] = <int64_t> self.fates[fate] + 1
        self.flags[worker] = flags if used else flags | DROPPED
        if reply.last:
            if not flags:  # no new checkpoint has been asked for
                self.unsaved.discard(worker)
            self.states[worker] = IS_IDLE
            self.idle.append(worker)
            self.replies[worker] = <int64_t> self.replies[worker] + 1
            self.busy_ns[worker] = (
                <int64_t> self.busy_ns[worker] + reply.t_recv_ns - <int64_t> self.sent_ns[worker])
            self.times.put(worker, reply.t_recv_ns - <int64_t> self.begun_ns[worker])
            self.own_times.put(worker, reply.t_send_ns - reply.t_start_ns)
        return 0

    cpdef int sent(self, Py_ssize_t worker, int64_t messages, int64_t now_ns, int64_t sent_ns) except -1:
        """Count a task that was sent at an event, and that so many messages will answer."""
        self.states[worker] = IS_BUSY
        self.tasks[worker] = <int64_t> self.tasks[worker] + 1
        self.awaited[worker] = messages
        self.outstanding += messages
        self.flags[worker] = 0
        self.begun_ns[worker], self.sent_ns[worker] = now_ns, sent_ns
        return 0


cdef class UpdateCounters:
    """Counters of updates, and of the one under way.

    Attributes
    ----------
    version : int
        Of θ: number of updates.
    now_ns, stepped_ns : int
        Time of the last event, and of the event at which the last round ended.
    used, fresh : int
        Payloads since the last step, and those among them that were not late.
    captured : float
        Share of the gradient captured since the last step.
    damping : float
        Sum of the payloads' damping since the last step.
    latest_ns, before_ns : int
        Arrival of the last payload that was used, and of the one before.
    senders : list of int
        Workers of the payloads since the last step.
    times_ns : list of int or None
        Times of all updates, if they are to be kept.
    """
