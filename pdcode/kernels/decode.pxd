from libc.stdint cimport int32_t


cdef extern from "decode.h" nogil:
    struct decode_unit:
        void *accumulator
        Py_ssize_t length, rows, weight, block
        const int32_t *indices
        const void *values
        const void *payload
    void decode_units_f32(const decode_unit *units, Py_ssize_t count)
    void decode_units_f64(const decode_unit *units, Py_ssize_t count)


cdef class Accumulators:
    cdef decode_unit *units
    cdef Py_ssize_t count
    cdef bytearray room
    cdef int kind
    cdef object arrays
    cdef bint put(self, codewords, payloads)
