from libc.stdint cimport int32_t, uint8_t


cdef extern from "codewords.h" nogil:
    struct codewords_section:
        const uint8_t *sent
        const uint8_t *places
        Py_ssize_t bytes, count, size
        void *values
        int32_t *indices
    void codewords_widen(const uint8_t *narrow, Py_ssize_t size, Py_ssize_t count, int32_t *wide)
    void codewords_narrow(const int32_t *wide, Py_ssize_t count, Py_ssize_t size, uint8_t *narrow)
    void codewords_read(const codewords_section *sections, Py_ssize_t count)


cdef class CodewordSections:
    cdef codewords_section *parts
    cdef Py_ssize_t count
    cdef bytearray room
    cdef list sections
