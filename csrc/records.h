/* records.h: rows of the trace, as pdcode/trace/schema.py declares their columns. */
#ifndef PDCODE_RECORDS_H
#define PDCODE_RECORDS_H

#include <stdint.h>

/* The columns of `ARRIVALS`. */
struct arrival_row {
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
struct update_row {
    int64_t version, t;
    int32_t used;
    double captured, norm;
    int64_t digest;
    int32_t waited_for;
    int64_t waited;
    uint8_t why;
} __attribute__((packed));

#endif
