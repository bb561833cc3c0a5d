/* selection.h: elements of a vector, the largest or random ones, and their indices in few bits. */
#ifndef PDCODE_SELECTION_H
#define PDCODE_SELECTION_H

#include <stddef.h>
#include <stdint.h>

ptrdiff_t selection_bytes(ptrdiff_t count, int bits);
void selection_pack(const int32_t *numbers, ptrdiff_t count, int bits, uint8_t *out);
void selection_unpack(const uint8_t *in, ptrdiff_t count, int bits, int32_t *numbers);
void selection_sample(int32_t bound, int32_t *out, ptrdiff_t count, const uint64_t key[2],
                      const uint64_t place[3], uint64_t *marks);

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                        \
    void selection_largest_##SUFFIX(const REAL *vector, ptrdiff_t length, ptrdiff_t chunk, ptrdiff_t most,  \
                                    int32_t *out, REAL *values, int32_t *places, ptrdiff_t room);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
