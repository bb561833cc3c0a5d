from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t


cdef extern from "intake.h" nogil:
    struct intake_header:
        uint16_t worker, flags
        uint32_t bytes, task, version
        int64_t row, start, compute, send, delay
        double loss
    struct intake_row:
        int32_t worker
        int64_t task, version, applied, row
        int32_t staleness
        int64_t dispatch, start, compute, send, recv, decoded, delay, up, down
        double captured
        uint8_t status
        double loss
        int32_t round, part
    struct intake_field:
        int kind
        Py_ssize_t rows, elements
        const uint8_t *wire
        void *flat
    struct intake_fold:
        void *accumulator
        Py_ssize_t length, rows, weight, block
        const int32_t *indices
        const void *values
        const void *payload
    struct intake_entry:
        int64_t kind
        double damping
    struct intake_words:
        const uint8_t *sent
        const uint8_t *places
        Py_ssize_t bytes, count, size
        void *values
        int32_t *indices
    struct intake_descent:
        void *theta
        Py_ssize_t length, rows, weight, block, blocks
        const int32_t *indices
        const void *values
        int kind
        const uint8_t *wire
        double scale
        uint8_t *seen
    int intake_read_f32(const intake_field *fields, Py_ssize_t count)
    int intake_read_f64(const intake_field *fields, Py_ssize_t count)
    void intake_fold_f32(const intake_fold *folds, Py_ssize_t count)
    void intake_fold_f64(const intake_fold *folds, Py_ssize_t count)
    bint intake_descend_f32(const intake_descent *descents, Py_ssize_t count, double rate)
    bint intake_descend_f64(const intake_descent *descents, Py_ssize_t count, double rate)
    void intake_given(const intake_words *words, Py_ssize_t count)
    void intake_widen(const uint8_t *narrow, Py_ssize_t size, Py_ssize_t count, int32_t *wide)
    void intake_narrow(const int32_t *wide, Py_ssize_t count, Py_ssize_t size, uint8_t *narrow)


cdef class Received:
    cdef public int64_t worker, task, version, row, t_start_ns, t_compute_ns, t_send_ns, t_recv_ns
    cdef public int64_t injected_delay_ns, bytes_up, bytes_down
    cdef public int32_t round, part
    cdef public double loss
    cdef public bint leaving
    cdef int64_t flags, bytes
