/* bits.h: codes of 1, 2, 4 or 8 bits, packed into bytes.
 *
 * `count` codes of b bits take q = ⌈count b / 8⌉ bytes. Code i is in byte i mod q, b ⌊i / q⌋ bits up: codes of a
 * byte lie q apart, so that packing and unpacking are loops over consecutive bytes, which vectorise.
 */
#ifndef PDCODE_BITS_H
#define PDCODE_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd.h"

#define MOST_CODES 1024 /* packed at a time */

INLINE ptrdiff_t packed_bytes(ptrdiff_t count, int bits)
{
    return (count * bits + 7) / 8;
}

/* Of each number, of `count` <= MOST_CODES, the `bits` bits from bit `first` on. */
INLINE void pack(const int32_t *restrict numbers, int first, ptrdiff_t count, int bits, uint8_t *restrict out)
{
    const ptrdiff_t bytes = packed_bytes(count, bits);
    const int32_t mask = (1 << bits) - 1;
    int32_t words[MOST_CODES];
#pragma omp simd
    for (ptrdiff_t j = 0; j < bytes; j++)
        words[j] = numbers[j] >> first & mask;
    for (ptrdiff_t start = bytes, shift = bits; start < count; start += bytes, shift += bits) {
        const ptrdiff_t end = count - start < bytes ? count - start : bytes;
#pragma omp simd
        for (ptrdiff_t j = 0; j < end; j++)
            words[j] |= (numbers[start + j] >> first & mask) << shift;
    }
#pragma omp simd
    for (ptrdiff_t j = 0; j < bytes; j++)
        out[j] = (uint8_t)words[j];
}

/* The codes, eight bytes at a time: there are no vector shifts of bytes. */
INLINE void unpack(const uint8_t *restrict in, ptrdiff_t count, int bits, uint8_t *restrict codes)
{
    const ptrdiff_t bytes = packed_bytes(count, bits);
    const uint64_t mask = (uint64_t)((1 << bits) - 1) * 0x0101010101010101u;
    for (ptrdiff_t start = 0, shift = 0; start < count; start += bytes, shift += bits) {
        const ptrdiff_t end = count - start < bytes ? count - start : bytes, whole = end / 8;
        for (ptrdiff_t j = 0; j < whole; j++) {
            uint64_t word;
            memcpy(&word, in + 8 * j, sizeof word);
            word = word >> shift & mask;
            memcpy(codes + start + 8 * j, &word, sizeof word);
        }
        for (ptrdiff_t j = 8 * whole; j < end; j++)
            codes[start + j] = (uint8_t)(in[j] >> shift & mask);
    }
}

#endif
