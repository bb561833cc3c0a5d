/* intake.h: headers of messages, rows of the trace, and payloads of several units in one call. */
#ifndef PDCODE_INTAKE_H
#define PDCODE_INTAKE_H

#include <stddef.h>
#include <stdint.h>

/* `HEADER` of pdcode/transport/layout.py. */
struct intake_header {
    uint16_t worker, flags;
    uint32_t bytes, task, version;
    int64_t row, start, compute, send, delay; /* in a task, start is a digest */
    double loss;
} __attribute__((packed));

/* The columns of `ARRIVALS` of pdcode/trace/schema.py. */
struct intake_row {
    int32_t worker;
    int64_t task, version, applied, row;
    int32_t staleness;
    int64_t dispatch, start, compute, send, recv, decoded, delay, up, down;
    double captured;
    uint8_t status;
    double loss;
    int32_t round, part;
} __attribute__((packed));

/* The columns of `UPDATES`. */
struct intake_update {
    int64_t version, t;
    int32_t used;
    double captured, norm;
    int64_t digest;
    int32_t waited_for;
    int64_t waited;
    uint8_t why;
} __attribute__((packed));

/* A unit's part of a payload: (rows, elements) on the wire in a format of quantise.h, and decoded. */
struct intake_field {
    int kind; /* -1: the wire format is that of the decoded payload, which is in the message */
    ptrdiff_t rows, elements;
    const uint8_t *wire;
    void *flat;
};

/* A unit's accumulator (length) and codewords, (rows, weight), of its payload, (rows, block). */
struct intake_fold {
    void *accumulator;
    ptrdiff_t length, rows, weight, block;
    const int32_t *indices;
    const void *values, *payload;
};

/* `ENTRY` of pdcode/coding/replica.py: what it is, and the damping of a step. */
struct intake_entry {
    int64_t kind;
    double damping;
} __attribute__((packed));

/* Codewords of a unit, (rows, weight), in a message and read; size: bytes of an index there. */
struct intake_words {
    const uint8_t *sent, *places;
    ptrdiff_t bytes, count, size; /* bytes of all values; number of indices */
    void *values;
    int32_t *indices;
};

/* A step of a unit's θ (length) by the codewords and the payload of an arrival; seen: (blocks), zeros. */
struct intake_descent {
    void *theta;
    ptrdiff_t length, rows, weight, block, blocks;
    const int32_t *indices;
    const void *values;
    int kind;
    const uint8_t *wire;
    double scale;
    uint8_t *seen;
};

void intake_widen(const uint8_t *narrow, ptrdiff_t size, ptrdiff_t count, int32_t *wide);
void intake_narrow(const int32_t *wide, ptrdiff_t count, ptrdiff_t size, uint8_t *narrow);
void intake_given(const struct intake_words *words, ptrdiff_t count);

#define PDCODE_DECLARE(SUFFIX)                                                       \
    int intake_read_##SUFFIX(const struct intake_field *fields, ptrdiff_t count);    \
    void intake_fold_##SUFFIX(const struct intake_fold *folds, ptrdiff_t count);     \
    int intake_descend_##SUFFIX(const struct intake_descent *descents, ptrdiff_t count, double rate);

PDCODE_DECLARE(f32)
PDCODE_DECLARE(f64)
#undef PDCODE_DECLARE

#endif
