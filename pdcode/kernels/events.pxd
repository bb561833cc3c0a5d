from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t


cdef extern from "events.h" nogil:
    enum:
        EVENTS_WORKER_BITS
        EVENTS_SLOT
        EVENTS_MEDIUM
        IDLE
        OUT
        DEAD
        CANCELLED
    const int64_t EVENTS_LAST
    struct in_flight:
        int64_t t_dispatch, t_start, t_compute, t_send, version, task, state
        uint64_t key
    struct event:
        int64_t reach
        uint64_t key
    struct events:
        event *heap
        event *inbox
        in_flight *flights
        int32_t *slots
        uint8_t *counts
        int64_t ring, kept
        int64_t *delays
        int64_t workers, size, dead, hole, now, in_free, out_free, ingress, egress, t_recv
        int64_t dispatched, arrived, oldest, held, filed
        int64_t up, latency, arrival, dispatch, update, half_duplex, tree, fanout
        int64_t *ups
        int64_t *arrivals
        int64_t *heard
        int64_t *spoken
        uint8_t *deaf
        int64_t peer
    struct parts:
        int64_t body, own, both, piece
    void events_begin(events *e)
    void events_send(events *e, const parts *parts, Py_ssize_t count, const int32_t *workers,
                     const int64_t *compute, const int64_t *delay)
    void events_follow(events *e, int64_t worker, int64_t compute, int64_t delay)
    int64_t events_pop(events *e, int64_t limit)
    void events_cancel(events *e, int cut)
    void events_postpone(events *e, int64_t worker, int64_t start, int64_t compute, int64_t send)
    void events_step(events *e)
    void events_put(events *e, int64_t worker)


cdef class Events:
    cdef events state
    cdef double bandwidth, decode_bandwidth
    cdef int64_t segment, arrival  # the latter without decoding
    cdef parts times  # link times of a task of `sizes`, the last ones asked for
    cdef object sizes
    cdef object heap, slots, counts, inbox, ups, arrivals, own
    cdef readonly object flights, deaf
    cdef int64_t on_link(self, size) except -1
    cdef int64_t at_processor(self, size) except -1
    cdef parts on_links(self, body_bytes, own_bytes) except *
    cdef int own_sizes(self) except -1
    cdef int depart(self, Py_ssize_t count, const int32_t *workers, const int64_t *compute_ns,
                    const int64_t *delay_ns, body_bytes, own_bytes, bytes_up) except -1
