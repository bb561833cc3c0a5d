/* payloads.h: a payload of several units. */
#ifndef PDCODE_PAYLOADS_H
#define PDCODE_PAYLOADS_H

#include <stddef.h>
#include <stdint.h>

/* A unit's part of a payload: (rows, elements) on the wire in a format of quantise.h, and decoded. */
struct payload_field {
    int kind; /* -1: the wire format of the decoded payload, which is in the message */
    ptrdiff_t rows, elements;
    const uint8_t *wire;
    void *flat;
};

int payload_read_f32(const struct payload_field *fields, ptrdiff_t count);
int payload_read_f64(const struct payload_field *fields, ptrdiff_t count);

#endif
