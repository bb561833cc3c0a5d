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
    struct intake_update:
        int64_t version, t
        int32_t used
        double captured, norm
        int64_t digest
        int32_t waited_for
        int64_t waited
        uint8_t why
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


cdef class Payload:
    cdef intake_field *fields
    cdef Py_ssize_t count
    cdef bint double
    cdef object arrays
    cdef bint sound(self) noexcept


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
    cdef str header(self, const intake_header *header, int64_t size)


cdef class Batch:
    cdef readonly bytearray buffer
    cdef Py_ssize_t end, size
    cdef bint put_reply(self, Received reply, int64_t applied, int64_t staleness, int64_t t_dispatch_ns,
                        int64_t t_decoded_ns, double captured, int status) except -1
    cdef bint put_update(self, int64_t version, int64_t t_ns, int64_t used, double captured, double norm,
                         int64_t digest, int64_t waited_for, int64_t waited_ns, int why) except -1
    cdef int added(self) except -1


cdef class Fold:
    cdef intake_fold *folds
    cdef Py_ssize_t count
    cdef int kind
    cdef object arrays
    cdef bint put(self, codewords, payloads)
