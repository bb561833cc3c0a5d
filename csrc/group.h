/* group.h: codes of 8, 4, 2 or 1 bits of a group of elements, and their scales; included once a precision.
 *
 * Design note. A pass over a group finds in the level 1 cache the results of the pass before. Codes are made
 * strip by strip, in the order in which they share a byte (bits.h), and never stored unpacked.
 *
 * Stochastic rounding converts a number to a fixed-point number of steps with 15 fractional bits, adds a random
 * number of 15 bits and drops the fraction: P(up) is the fraction. The bias is below 2^-16 of a step, and 2^-22 of
 * the number, which is how exact its product with 1/scale is. Random numbers are halves of the words of random.h:
 * the first half of the elements takes the lower ones.
 *
 * Means are sums of fixed-point numbers, which do not depend on their order; otherwise only integer and correctly
 * rounded single operations are used: the same bytes on every machine.
 */
#ifndef PDCODE_GROUP_H
#define PDCODE_GROUP_H

#include <math.h>
#include <string.h>

#include "bits.h"
#include "finite.h"
#include "quantise.h"
#include "random.h"
#include "simd.h"

#define GROUP PDCODE_GROUP
#define INFINITE 0x7F800000u    /* bits of infinity */
#define MOST_SCALE 0x7F7FFFF0u   /* up to here as many steps as a code has cannot overflow */
#define LEAST_SCALE 0x0B800000u  /* 2^-104: below, 1/scale with its fixed-point bits may overflow */
#define MAGIC 0x1.8p23f
#define MAGIC_BITS 0x4B400000u
#define SHARES 8 /* codes that may share a byte */
#define WHOLE 16
#define SLACK 18

/* Bits of a code, and scales of a group; 0 for formats without. */
static const struct {
    int bits, scales;
} CODES[PDCODE_FORMATS] = {
    [PDCODE_INT8] = {8, 1}, [PDCODE_INT4] = {4, 1}, [PDCODE_INT2] = {2, 2},
    [PDCODE_SIGN] = {1, 1}, [PDCODE_QSGD] = {4, 1},
};

INLINE uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Largest magnitude as bits; their order is the order of the numbers, NaN above infinity. */
INLINE uint32_t largest(const float *restrict x, ptrdiff_t count)
{
    uint32_t top = 0;
#pragma GCC unroll 4
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint32_t magnitude = bits_of(x[i]) & 0x7FFFFFFFu;
        top = magnitude > top ? magnitude : top;
    }
    return top;
}

/* Ask for the next group while this one is worked on: processors do not foresee beyond a page of 4 KiB. */
INLINE void foresee(const void *next, ptrdiff_t bytes)
{
    for (ptrdiff_t line = 0; line < bytes; line += 64)
        PREFETCH((const char *)next + line);
}

/* The integer nearest to x, |x| <= 2^22, ties to even: the number that a sum with MAGIC adds to its bits. */
INLINE int32_t nearest(float x)
{
    return (int32_t)(bits_of(x + MAGIC) - MAGIC_BITS);
}

/* The largest factor that brings `top` to at most `most`, a power of two or 7 or 127 of them. */
INLINE float factor_to(float most, float top)
{
    const float factor = most / top;
    return factor * top > most ? float_of(bits_of(factor) - 1) : factor;
}

/* A code from -levels to levels: x in steps of 2^-15, stochastically rounded. */
INLINE int32_t level(float x, float factor, uint32_t random)
{
    return (nearest(x * factor) + (int32_t)random) >> 15;
}

INLINE void to_int8(const float *restrict x, float factor, const uint32_t *restrict words,
                    uint8_t *restrict out, ptrdiff_t count)
{
    const ptrdiff_t half = (count + 1) / 2;
#pragma omp simd
    for (ptrdiff_t j = 0; j < half; j++)
        out[j] = (uint8_t)level(x[j], factor, words[j] & 0x7FFFu);
#pragma omp simd
    for (ptrdiff_t j = 0; j < count - half; j++)
        out[half + j] = (uint8_t)level(x[half + j], factor, words[j] >> 17);
}

INLINE void to_qsgd(const float *restrict x, float factor, const uint32_t *restrict words,
                    uint8_t *restrict out, ptrdiff_t half)
{
    const float *restrict y = x + half;
#pragma omp simd
    for (ptrdiff_t j = 0; j < half; j++) {
        const int32_t low = level(x[j], factor, words[j] & 0x7FFFu), high = level(y[j], factor, words[j] >> 17);
        out[j] = (uint8_t)((low & 15) | high << 4);
    }
}

INLINE void to_int4(const float *restrict x, float factor, uint8_t *restrict out, ptrdiff_t half)
{
    const float *restrict y = x + half;
#pragma omp simd
    for (ptrdiff_t j = 0; j < half; j++)
        out[j] = (uint8_t)((nearest(x[j] * factor) & 15) | nearest(y[j] * factor) << 4);
}

/* Factor that brings magnitudes of this exponent from 2^19 to 2^20: rounded to integers, the magnitudes of a
 * group then have a sum of at most 31 bits. `mean_of` undoes it. */
INLINE float fixed(uint32_t exponent)
{
    return float_of((273 - exponent) << 23);
}

/* Mean of `count` such integers, with its sign if it has one; 0 if there are none. */
INLINE float mean_of(int32_t sum, ptrdiff_t count, uint32_t exponent)
{
    const float mean = count > 0 ? (float)((double)sum / (double)count) : 0, most = 0x1.FFFFFEp19f;
    return (mean > most ? most : mean) * float_of((exponent - 19) << 23); /* that is no infinity */
}

/* Signs (1 if negative), and the mean magnitude. */
INLINE void to_signs(const float *restrict x, uint32_t exponent, float *restrict mean, uint8_t *restrict out,
                     ptrdiff_t count)
{
    const float factor = fixed(exponent);
    const ptrdiff_t bytes = packed_bytes(count, 1);
    int32_t sum = 0;
#pragma GCC unroll 4
    for (ptrdiff_t i = 0; i < count; i++)
        sum += nearest(float_of(bits_of(x[i]) & 0x7FFFFFFFu) * factor);
    *mean = mean_of(sum, count, exponent);
#pragma omp simd
    for (ptrdiff_t j = 0; j < bytes; j++) {
        uint32_t byte = 0;
#pragma GCC unroll 8
        for (int strip = 0; strip < 8; strip++)
            byte |= bits_of(x[strip * bytes + j]) >> 31 << strip;
        out[j] = (uint8_t)byte;
    }
}

/* All bits, or none. */
INLINE uint32_t above(uint32_t value, int32_t threshold)
{
    return -(uint32_t)((int32_t)value > threshold);
}

/* Sign (2 if negative) and whether the magnitude is above a threshold (1), and the mean magnitudes of both
 * sides: a projection. The threshold, .9816 of the root of the mean square, is the best one for normal numbers
 * (Max 1960), and lies near the mean where magnitudes are alike. That root is at least 1/32 of the largest
 * magnitude, so that ten bits of each suffice for it. Magnitudes keep the bits of MAGIC, and sums go modulo 2^32:
 * with an operation less an element, the four strips of a group just reach half the speed of a copy. */
INLINE void to_bins(const float *restrict x, uint32_t exponent, float means[2], uint8_t *restrict out,
                    ptrdiff_t count)
{
    const float factor = fixed(exponent);
    const ptrdiff_t bytes = packed_bytes(count, 2);
    uint32_t values[GROUP], total = 0, sum = 0, number = 0;
    int32_t squares = 0;
#pragma GCC unroll 4
    for (ptrdiff_t i = 0; i < 4 * bytes; i++) {
        values[i] = bits_of(float_of(bits_of(x[i]) & 0x7FFFFFFFu) * factor + MAGIC);
        total += values[i];
        const int32_t rough = (int32_t)(values[i] - (MAGIC_BITS - 512)) >> 10;
        squares += rough * rough;
    }
    const double root = sqrt((double)squares / (double)count);
    const int32_t threshold = (int32_t)(0.9816 * 1024 * root) + (int32_t)MAGIC_BITS;
    const uint32_t *restrict v = values, *restrict w = v + bytes, *restrict y = w + bytes, *restrict z = y + bytes;
    const float *restrict x1 = x + bytes, *restrict x2 = x1 + bytes, *restrict x3 = x2 + bytes;
    for (ptrdiff_t j = 0; j < bytes; j++) {
        const uint32_t a = above(v[j], threshold), b = above(w[j], threshold);
        const uint32_t c = above(y[j], threshold), d = above(z[j], threshold);
        sum += ((v[j] & a) + (w[j] & b)) + ((y[j] & c) + (z[j] & d));
        number -= (a + b) + (c + d);
        out[j] = (uint8_t)((a & 1) | (b & 4) | (c & 16) | (d & 64) | (bits_of(x[j]) >> 30 & 2)
                           | (bits_of(x1[j]) >> 28 & 8) | (bits_of(x2[j]) >> 26 & 32) | (bits_of(x3[j]) >> 24 & 128));
    }
    total -= 4 * (uint32_t)bytes * MAGIC_BITS;
    sum -= number * MAGIC_BITS;
    means[0] = mean_of((int32_t)(total - sum), count - (ptrdiff_t)number, exponent);
    means[1] = mean_of((int32_t)sum, (ptrdiff_t)number, exponent);
}

/* Scales and packed codes of a group; returns whether it is finite. `top`: bits of its largest magnitude. x is
 * padded with zeros to a multiple of SHARES. */
INLINE int encode_group(int kind, const float *restrict x, uint32_t top, const uint32_t *restrict words,
                        float *restrict scales, uint8_t *restrict out, ptrdiff_t count)
{
    const float levels = kind == PDCODE_INT8 ? 127 : 7, most = float_of(top < MOST_SCALE ? top : MOST_SCALE);
    if (top < LEAST_SCALE || top >= INFINITE) { /* negligible, or NaN, which the scales pass on to all elements */
        for (int i = 0; i < CODES[kind].scales; i++)
            scales[i] = top < LEAST_SCALE ? 0.0f : float_of(0x7FC00000u);
        memset(out, 0, (size_t)packed_bytes(count, CODES[kind].bits));
        return top < LEAST_SCALE;
    }
    if (kind == PDCODE_INT2)
        to_bins(x, top >> 23, scales, out, count);
    else if (kind == PDCODE_SIGN)
        to_signs(x, top >> 23, scales, out, count);
    else {
        scales[0] = most / levels;
        if (kind == PDCODE_INT8)
            to_int8(x, factor_to(levels * 0x1p15f, float_of(top)), words, out, count);
        else if (kind == PDCODE_INT4)
            to_int4(x, levels / float_of(top), out, (count + 1) / 2);
        else
            to_qsgd(x, factor_to(levels * 0x1p15f, float_of(top)), words, out, (count + 1) / 2);
    }
    return 1;
}
#endif

/* The source in single precision, padded with zeros to a multiple of SHARES: itself if it is that, or rounded to
 * nearest into a buffer. */
INLINE const float *NAME(single)(const REAL *restrict source, float *restrict buffer, ptrdiff_t count)
{
    if (sizeof(REAL) == sizeof(float) && count % SHARES == 0)
        return (const float *)(const void *)source;
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        buffer[i] = (float)source[i];
    for (ptrdiff_t i = count; i % SHARES != 0; i++)
        buffer[i] = 0;
    return buffer;
}

/* out = one of two mean magnitudes, with its sign. Strips are written in vectors of WHOLE, so that nothing is left
 * over for slow loops: the last one of a strip reaches into the next one, which comes later, and the last one of
 * all up to SLACK elements beyond the end. */
INLINE void NAME(from_bins)(const float means[2], const uint8_t *restrict packed, REAL *restrict out,
                            ptrdiff_t count)
{
    const REAL low = (REAL)means[0], high = (REAL)means[1];
    const ptrdiff_t bytes = packed_bytes(count, 2), end = (bytes + WHOLE - 1) / WHOLE * WHOLE;
    BITS codes[GROUP / 4 + WHOLE];
#pragma omp simd
    for (ptrdiff_t j = 0; j < bytes; j++)
        codes[j] = packed[j];
    for (ptrdiff_t j = bytes; j < end; j++)
        codes[j] = 0;
    for (int strip = 0; strip < 8; strip += 2, out += bytes)
#pragma omp simd
        for (ptrdiff_t j = 0; j < end; j++) {
            const REAL mean = codes[j] >> strip & 1 ? high : low;
            out[j] = codes[j] >> strip & 2 ? -mean : mean;
        }
}

/* Whether the largest magnitude that a group of this scale may have is usable. */
INLINE int NAME(usable_scale)(int kind, float scale)
{
    const REAL most = (REAL)scale * (kind == PDCODE_INT8 ? 127 : CODES[kind].bits == 4 ? 7 : 1);
    return most > -(REAL)LARGEST_ELEMENT(sizeof(REAL)) && most < (REAL)LARGEST_ELEMENT(sizeof(REAL));
}

/* Returns whether the group is usable. slack: whether SLACK elements after `out` may be overwritten. */
INLINE int NAME(decode_group)(int kind, const float *restrict scales, const uint8_t *restrict packed,
                              REAL *restrict out, ptrdiff_t count, const int slack)
{
    const REAL scale = (REAL)scales[0];
    uint8_t codes[GROUP];
    int8_t levels[GROUP];
    if (kind == PDCODE_INT2) {
        REAL buffer[GROUP + SLACK];
        const int direct = slack || count == GROUP;
        NAME(from_bins)(scales, packed, direct ? out : buffer, count);
        if (!direct)
            memcpy(out, buffer, (size_t)count * sizeof(REAL));
        return NAME(usable_scale)(kind, scales[0]) && NAME(usable_scale)(kind, scales[1]);
    }
    if (kind != PDCODE_INT8)
        unpack(packed, count, CODES[kind].bits, codes);
    if (kind == PDCODE_SIGN) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < count; i++)
            levels[i] = (int8_t)(1 - 2 * codes[i]);
    } else if (kind != PDCODE_INT8) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < count; i++)
            levels[i] = (int8_t)((codes[i] ^ 8) - 8); /* two's complement of 4 bits */
    }
    const int8_t *factors = kind == PDCODE_INT8 ? (const int8_t *)packed : levels;
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = (REAL)factors[i] * scale;
    return NAME(usable_scale)(kind, scales[0]);
}
