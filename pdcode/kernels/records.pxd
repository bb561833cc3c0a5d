from libc.stdint cimport int64_t

from pdcode.kernels.headers cimport Received


cdef class Batch:
    cdef readonly bytearray buffer
    cdef Py_ssize_t end, size
    cdef bint put_reply(self, Received reply, int64_t applied_version, int64_t staleness,
                        int64_t t_dispatch_ns, int64_t t_decoded_ns, double captured, int status) except -1
    cdef bint put_update(self, int64_t version, int64_t t_ns, int64_t n_used, double captured,
                         double step_norm, int64_t digest, int64_t waited_for, int64_t waited_ns,
                         int why) except -1
    cdef int added(self) except -1
