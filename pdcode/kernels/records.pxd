from libc.stdint cimport int32_t, int64_t, uint8_t

from pdcode.kernels.headers cimport Received


cdef extern from "records.h" nogil:
    struct arrival_row:
        int32_t worker
        int64_t task, version, applied, row
        int32_t staleness
        int64_t dispatch, start, compute, send, recv, decoded, delay, up, down
        double captured
        uint8_t status
        double loss
        int32_t round, part
    struct update_row:
        int64_t version, t
        int32_t used
        double captured, norm
        int64_t digest
        int32_t waited_for
        int64_t waited
        uint8_t why


cdef class Batch:
    cdef readonly bytearray buffer
    cdef Py_ssize_t end, size
    cdef bint put_reply(self, Received reply, int64_t applied, int64_t staleness, int64_t t_dispatch_ns,
                        int64_t t_decoded_ns, double captured, int status) except -1
    cdef bint put_update(self, int64_t version, int64_t t_ns, int64_t used, double captured, double norm,
                         int64_t digest, int64_t waited_for, int64_t waited_ns, int why) except -1
    cdef int added(self) except -1
