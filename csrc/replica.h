/* replica.h: a replica's descent by the arrivals in a log. */
#ifndef PDCODE_REPLICA_H
#define PDCODE_REPLICA_H

#include <stddef.h>
#include <stdint.h>

/* The head of an entry of a log (pdcode/transport/log.py): what the entry is, and the damping of a step. */
struct replica_entry {
    int64_t kind;
    double damping;
} __attribute__((packed));

/* A step of a unit's θ (length) by the codewords and the payload of an arrival; seen: (blocks), zeros. */
struct replica_step {
    void *theta;
    ptrdiff_t length, rows, weight, block, blocks;
    const int32_t *indices;
    const void *values;
    int kind;
    const uint8_t *wire;
    double scale;
    uint8_t *seen;
};

int replica_descend_f32(const struct replica_step *steps, ptrdiff_t count, double rate);
int replica_descend_f64(const struct replica_step *steps, ptrdiff_t count, double rate);

#endif
