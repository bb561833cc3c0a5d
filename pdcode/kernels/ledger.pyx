"""What rank 0 counts, and its most frequent turn in one call: a reply that is an update by itself."""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.stdint cimport int64_t

from pdcode.kernels.arrays cimport data, extent, room
from pdcode.kernels.intake cimport Fold, Received
from pdcode.kernels.optimize cimport Descent

import numpy as np

cnp.import_array()


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


cdef class Recent:
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
        if not room(array, cnp.NPY_FLOAT64, 2):
            raise ValueError("the last times must be a matrix of float64")
        self.array, self.kept = array, <double *> data(array)
        self.workers, self.most = extent(array, 0), extent(array, 1)

    def add(self, worker, time_ns):
        """Add a time of a worker.

        Raises
        ------
        IndexError
            If there is no such worker.
        """
        self.put(worker, time_ns)

    cdef int put(self, Py_ssize_t worker, double time_ns) except -1:
        if not 0 <= worker < self.workers:
            raise IndexError(f"worker {worker} is none of {self.workers}")
        cdef int64_t count = self.counts[worker]
        self.kept[worker * self.most + count % self.most] = time_ns
        self.counts[worker] = count + 1
        return 0


cdef class Single:
    """Update by one arrival alone, by plain gradient descent.

    Parameters
    ----------
    fold : Fold
        Adds payloads to accumulators, which are zero before and after an update.
    descents : sequence of optimize.Descent
        Of each unit, from its accumulator.
    scales : sequence of float
        Factor from each accumulator to the gradient.
    captured : float
        Share of the gradient that an arrival captures.
    """

    def __init__(self, Fold fold not None, descents, scales, captured):
        self.fold, self.captured = fold, captured
        self.descents, self.scales = list(descents), [float(scale) for scale in scales]
        for descent in self.descents:
            if not isinstance(descent, Descent):
                raise TypeError(f"{descent} is no Descent")
        if not len(self.descents) == len(self.scales) == fold.count:
            raise ValueError("every accumulator must have a descent and a scale")

    cdef double step(self, codewords, double rate) except? -1:
        """Step the blocks of an arrival that has been folded in; return the squared norm."""
        cdef double total = 0
        cdef Py_ssize_t number
        for number in range(len(self.descents)):
            total = (<Descent> self.descents[number]).take(
                codewords[number][0], rate * <double> self.scales[number], total)
        return total


cdef class Ledger:
    """Counts of replies and updates, of which `pdcode.training.coordinator.Coordinator` tells the meaning.

    Attributes
    ----------
    t_update_ns : list of int or None
        Times of all updates, if they are to be kept.
    """

    def plan(self, messages, eager, late, constant, advances, single, rows, steps):
        """Set what does not change during the run.

        Parameters
        ----------
        messages : list of int
            Number of messages by which a worker answers a task, for each round.
        eager : bool
            Whether each usable payload is an update by itself: `turn` has an effect only then.
        late : bool
            Whether late payloads are used.
        constant : bool
            Whether payloads, however late, are not damped.
        advances : bool
            Whether the fleet is to be told of steps.
        single : Single or None
            Does what `state.fold` and `state.step` do, in fewer calls.
        rows, steps : Batch or None
            Take what `trace.arrived` and `trace.update` record.
        """
        self.messages = messages
        self.eager, self.late, self.constant, self.advances = eager, late, constant, advances
        self.single, self.rows, self.steps = single, rows, steps

    def turn(self, Received reply not None, int used, int enough):
        """Fold in a reply that is an update by itself, step, and record both.

        This is what `Coordinator.on_arrival` does with such a reply, up to the call of the monitor.

        Parameters
        ----------
        reply : Received
        used, enough : int
            For the trace: the fate of a payload that is used, and why rank 0 steps.

        Returns
        -------
        int
            The time after the step, in ns; -1 if the reply needs more than this, and nothing has been done.
        """
        cdef Py_ssize_t worker = reply.worker
        cdef int64_t staleness = self.version - reply.version, sent_ns, now_ns
        cdef double damping
        cdef bint alone
        if (not self.eager or not reply.finite or not reply.last or reply.leaving or self.used
                or self.stopping or self.overdue or self.left or self._unsaved or self._marks[worker]
                or staleness < 0 or (staleness and not self.late)):
            return -1
        sent_ns, self.now_ns = self.t_dispatch_ns[worker], reply.t_recv_ns
        self.arrivals += 1
        self.outstanding -= 1
        self.awaited[worker] = <int64_t> self.awaited[worker] - 1
        self.waiting.append(worker)
        self.replies[worker] = <int64_t> self.replies[worker] + 1
        self.busy_ns[worker] = <int64_t> self.busy_ns[worker] + reply.t_recv_ns - sent_ns
        self.times.put(worker, reply.t_recv_ns - <int64_t> self._begun_ns[worker])
        alone = self.single is not None and self.single.fold.put(reply.codewords, reply.payloads)
        captured = self.single.captured if alone else self.state.fold(reply)
        self._before_ns, self._latest_ns = self._latest_ns, reply.t_recv_ns
        self.outcomes[used] = <int64_t> self.outcomes[used] + 1
        self.returned[worker] = 0
        now_ns = self.fleet.now_ns()
        if self.rows is not None:
            self.rows.put_reply(reply, self.version, staleness, sent_ns, now_ns, captured, used)
        else:
            self.trace.arrived(reply, self.version, staleness, sent_ns, now_ns, captured, used)
        self.stepped_ns = self.now_ns
        damping = 1.0 if self.constant else self.state.optimizer.damping(staleness)
        if alone:
            norm = sqrt(self.single.step(reply.codewords, <double> self.state.optimizer.rate * damping))
        else:
            norm = self.state.step(damping)
        if self.advances:
            self.fleet.stepped()
        now_ns = self.fleet.now_ns()
        if norm is not None:  # None: the update continues with another round
            self.version += 1
            if self.t_update_ns is not None:
                self.t_update_ns.append(now_ns)
            digest = self.state.digest
            if self.steps is not None:
                self.steps.put_update(self.version, now_ns, 1, captured, norm, digest, -1, 0, enough)
            else:
                self.trace.update(self.version, now_ns, 1, captured, norm, digest, -1, 0, enough)
        return now_ns

    def dispatch(self, Py_ssize_t worker):
        """Send an idle worker its next task."""
        cdef int64_t task = self.tasks[worker], expected
        order = self.state.order(worker, task)
        expected = self.messages[order.round]
        self.awaited[worker] = expected
        self.outstanding += expected
        self._begun_ns[worker] = self.now_ns
        self.t_dispatch_ns[worker] = self.fleet.dispatch(
            worker, task, self.version, order, self.flags(worker))
        self.tasks[worker] = task + 1

    cpdef object flags(self, Py_ssize_t worker):
        """Return the flags of a worker's next message."""
        flags, self._marks[worker] = self.returned[worker] | self._marks[worker], 0
        return flags
