from libc.stdint cimport int64_t

from pdcode.kernels.headers cimport Received


cdef class Clock:
    cdef object read
    cdef int64_t start_ns


cdef class RecentTimes:
    cdef public list counts
    cdef object array
    cdef double *kept
    cdef Py_ssize_t most, workers
    cdef int put(self, Py_ssize_t worker, double time_ns) except -1


cdef class WorkerCounters:
    cdef public list states, tasks, replies, awaited, flags, sent_ns, begun_ns, busy_ns, idle, fates
    cdef public set unsaved
    cdef public int64_t arrivals, outstanding, overdue_count
    cdef public RecentTimes times, own_times
    cpdef int answered(self, Received reply, int fate, bint used) except -1
    cpdef int sent(self, Py_ssize_t worker, int64_t messages, int64_t now_ns, int64_t sent_ns) except -1


cdef class UpdateCounters:
    cdef public int64_t version, now_ns, stepped_ns, used, fresh, latest_ns, before_ns
    cdef public double captured, damping
    cdef public list senders, times_ns
