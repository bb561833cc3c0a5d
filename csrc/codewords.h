/* codewords.h: codewords in a message: values as they are, indices in the smallest unsigned type that holds them. */
#ifndef PDCODE_CODEWORDS_H
#define PDCODE_CODEWORDS_H

#include <stddef.h>
#include <stdint.h>

/* Codewords of a unit, (rows, weight), in a message and read; size: bytes of an index in the message. */
struct codewords_section {
    const uint8_t *sent, *places;
    ptrdiff_t bytes, count, size; /* bytes of all values; number of indices */
    void *values;
    int32_t *indices;
};

void codewords_widen(const uint8_t *narrow, ptrdiff_t size, ptrdiff_t count, int32_t *wide);
void codewords_narrow(const int32_t *wide, ptrdiff_t count, ptrdiff_t size, uint8_t *narrow);
void codewords_read(const struct codewords_section *sections, ptrdiff_t count);

#endif
