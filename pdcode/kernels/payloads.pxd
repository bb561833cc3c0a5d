from libc.stdint cimport uint8_t


cdef extern from "payloads.h" nogil:
    struct payload_field:
        int kind
        Py_ssize_t rows, elements
        const uint8_t *wire
        void *flat
    int payload_read_f32(const payload_field *fields, Py_ssize_t count)
    int payload_read_f64(const payload_field *fields, Py_ssize_t count)


cdef class Payload:
    cdef payload_field *fields
    cdef Py_ssize_t count
    cdef bytearray room
    cdef bint double
    cdef object arrays
    cdef bint decode(self) noexcept
