from libc.stdint cimport int32_t, int64_t, uint64_t

from pdcode.kernels.events cimport events, parts


cdef extern from "rounds.h" nogil:
    enum:
        ROUNDS_DONE
        ROUNDS_DRY
        ROUNDS_FULL
        ROUNDS_PAUSED
        ROUNDS_STUCK
        ROUNDS_ARRIVAL
        ROUNDS_UPDATE
        ROUNDS_MARK
    const int64_t ROUNDS_DRAW
    struct rounds:
        events *events
        parts parts
        const int64_t *compute
        int64_t compute_step
        int32_t *waiting
        uint64_t *marks
        int64_t idle, first
        int64_t wanted, waste, updates, until, drain
        int64_t version, fresh, stopping, stop
        int64_t outcomes[3]
        int64_t every, room, rows, steps
        int64_t *arrivals
        int64_t *steps_made
    int rounds_run(rounds *r, int64_t most)
