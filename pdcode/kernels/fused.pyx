"""A reply that is an update by itself: folded in, stepped by, counted and recorded in one call."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

from pdcode.kernels.decode cimport Accumulators
from pdcode.kernels.headers cimport Received
from pdcode.kernels.optimize cimport Descent
from pdcode.kernels.roster cimport UpdateCounters, WorkerCounters
from pdcode.kernels.records cimport Batch


cdef int64_t NEVER_NS = 1LL << 62


cdef class SingleUpdate:
    """Update by one arrival alone, by plain gradient descent.

    Parameters
    ----------
    fold : decode.Accumulators
        Adds payloads to accumulators, which are zero before and after an update.
    descents : sequence of optimize.Descent
        Of each unit, from its accumulator.
    scales : sequence of float
        Factor from each accumulator to the gradient.
    captured : float
        Share of the gradient that an arrival captures.
    """

    cdef Accumulators fold
    cdef list descents, scales
    cdef double captured

    def __init__(self, Accumulators fold not None, descents, scales, captured):
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


cdef class FusedReply:
    """`Coordinator.on_reply` for replies that are updates by themselves.

    Parameters
    ----------
    coordinator : training.coordinator.Coordinator
    single : SingleUpdate or None
        Does what `state.fold` and `state.step` do, in fewer calls.
    fate, why : int
        For the trace: the fate of a payload that is used, and why rank 0 steps.
    """

    cdef object coordinator, fleet, state, trace, liveness, average, plateau
    cdef WorkerCounters roster
    cdef UpdateCounters update
    cdef bint late, undamped, scheduled
    cdef double factor  # on the step of one payload
    cdef int64_t average_every
    cdef SingleUpdate single
    cdef Batch rows, steps
    cdef int fate, why

    def __init__(self, coordinator, single, fate, why):
        self.coordinator, self.fleet, self.state = coordinator, coordinator.fleet, coordinator.state
        self.roster, self.update, self.trace = coordinator.roster, coordinator.update, coordinator.trace
        self.liveness, self.single, self.fate, self.why = coordinator.liveness, single, fate, why
        self.average, self.average_every = coordinator.average, coordinator.average_every
        self.plateau = coordinator.plateau
        self.late, self.undamped = self.state.policy.usable(1), self.state.optimizer.undamped
        self.scheduled = self.state.optimizer.table.scheduled
        self.factor = self.state.policy.table.step_factor(1, self.fleet.workers)
        self.rows, self.steps = self.trace.batches

    def handle(self, Received reply not None):
        """Apply a reply to θ, call the monitor and send its worker the next task.

        Returns
        -------
        bool
            Whether the reply is an update by itself; nothing is done if not.
        """
        cdef int64_t now_ns = self.apply(reply)
        cdef list idle = self.roster.idle
        cdef Py_ssize_t worker
        cdef int64_t task
        if now_ns < 0:
            return False
        coordinator = self.coordinator
        if reason := coordinator.monitor(now_ns, coordinator):
            coordinator.stop(reason, now_ns)
        if coordinator.held_until_ns and not coordinator.stopping:
            coordinator.tasks_due = True
            return True
        if len(idle) > 1 or coordinator.stopping or <int64_t> self.liveness.due_ns >= NEVER_NS:
            coordinator.dispatch_idle()
            return True
        worker = idle.pop()
        task = self.roster.tasks[worker]
        order = self.state.order(worker, task)
        sent_ns = self.fleet.dispatch(worker, task, self.update.version, order, self.roster.flags[worker])
        self.roster.sent(worker, coordinator.messages[order.round], self.update.now_ns, sent_ns)
        return True

    cdef int64_t apply(self, Received reply) except? -1:
        """Apply a reply to θ; return the time after the step, in ns, or -1 if it is no update by itself."""
        cdef WorkerCounters roster = self.roster
        cdef UpdateCounters update = self.update
        cdef Py_ssize_t worker = reply.worker
        cdef int64_t staleness = update.version - reply.version, now_ns
        cdef double damping, captured
        cdef bint alone
        if (not reply.finite or not reply.last or reply.leaving or update.used or roster.overdue_count
                or roster.unsaved or roster.flags[worker] or staleness < 0 or (staleness and not self.late)):
            return -1
        update.now_ns = update.stepped_ns = reply.t_recv_ns
        update.before_ns, update.latest_ns = update.latest_ns, reply.t_recv_ns
        alone = self.single is not None and self.single.fold.put(reply.codewords, reply.payloads)
        captured = self.single.captured if alone else self.state.fold(reply)
        roster.answered(reply, self.fate, True)
        now_ns = self.fleet.now_ns()
        if self.rows is not None:
            self.rows.put_reply(reply, update.version, staleness, roster.sent_ns[worker], now_ns, captured,
                                self.fate)
        else:
            self.trace.arrived(reply, update.version, staleness, roster.sent_ns[worker], now_ns, captured,
                               self.fate)
        damping = self.factor
        if not self.undamped:
            damping *= self.state.optimizer.damping(staleness)
        if self.scheduled:
            damping *= self.state.optimizer.table.factor(update.version)
        if self.plateau is not None:
            self.plateau.add(reply.loss)
            damping *= self.plateau.factor
        if alone:
            norm = sqrt(self.single.step(reply.codewords, <double> self.state.optimizer.rate * damping))
            self.fleet.stepped()
        else:
            norm = self.state.step(damping)
            self.coordinator.report_step()
        if norm is not None:  # None: the update continues with another round
            update.version += 1
            if self.average is not None and update.version % self.average_every == 0:
                self.state.optimizer.average(self.average, self.state.theta,
                                             update.version // self.average_every)
        now_ns = self.fleet.now_ns()
        if norm is not None:
            if update.times_ns is not None:
                update.times_ns.append(now_ns)
            digest = self.state.digest
            if self.steps is not None:
                self.steps.put_update(update.version, now_ns, 1, captured, norm, digest, -1, 0, self.why)
            else:
                self.trace.update(update.version, now_ns, 1, captured, norm, digest, -1, 0, self.why)
        return now_ns
