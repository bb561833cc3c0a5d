from libc.stdint cimport int64_t

from pdcode.kernels.intake cimport Batch, Fold, Received


cdef class Clock:
    cdef object read
    cdef int64_t start_ns


cdef class Recent:
    cdef public list counts
    cdef object array
    cdef double *kept
    cdef Py_ssize_t most, workers
    cdef int put(self, Py_ssize_t worker, double time_ns) except -1


cdef class Single:
    cdef Fold fold
    cdef list descents, scales
    cdef double captured
    cdef double step(self, codewords, double rate) except? -1


cdef class Ledger:
    cdef public int64_t version, arrivals, outstanding, now_ns, stepped_ns, used, fresh
    cdef public int64_t _before_ns, _latest_ns
    cdef public double captured, _damping
    cdef public bint eager
    cdef list messages
    cdef public object fleet, state, trace, stopping
    cdef public list t_update_ns
    cdef public Recent times
    cdef public list waiting, tasks, replies, awaited, t_dispatch_ns, busy_ns, returned, outcomes
    cdef public list overdue, left, _begun_ns, _marks, _senders
    cdef public set _unsaved
    cdef bint late, constant, advances
    cdef Single single
    cdef Batch rows, steps
    cpdef object flags(self, Py_ssize_t worker)
