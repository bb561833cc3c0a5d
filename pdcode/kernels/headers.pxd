from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t

from pdcode.kernels.payloads cimport Payload


cdef extern from "headers.h" nogil:
    enum: MESSAGE_LEAVING
    struct message_header:
        uint16_t worker, flags
        uint32_t bytes, task, version
        int64_t row, start, compute, send, delay
        double loss


cdef class Received:
    cdef public int64_t worker, task, version, row, t_start_ns, t_compute_ns, t_send_ns, t_recv_ns
    cdef public int64_t injected_delay_ns, bytes_up, bytes_down
    cdef public int32_t round, part
    cdef public double loss
    cdef public bint leaving, finite, last
    cdef public object codewords
    cdef int64_t flags, bytes
    cdef bint chosen
    cdef object message, read
    cdef Payload payload
    cdef str header(self, const message_header *header, int64_t size)
