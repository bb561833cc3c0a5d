/* quantise.c: payloads as float64, float32, bfloat16, float16 or int8, with unbiased stochastic rounding.
 *
 * Design note. source is (rows, elements). A row is cut into groups of GROUP elements, so that what one pass
 * leaves in the level 1 cache the next one finds there; formats but int8 take the payload as one row. int8
 * stores a float32 scale per group first, then the codes. A magnitude is converted to a fixed-point number of
 * steps of the format with 16 fractional bits, a random number of 16 bits is added, and the fraction is
 * dropped: P(up) is the fraction, to 2^-17 of a step (exactly for bfloat16 and normal numbers of float16).
 * Element c of group G takes bits 16 (c mod 4) ... of number c / 4 of the 256 that Philox blocks 1 + 64 G ...
 * give. Bound by these: 0.9 ns of 1.4 ns per element; the rest vectorises. Only integer and correctly rounded
 * single operations are used: the same bytes on every machine.
 */
#ifndef REAL
#include "quantise.h"
#define KERNEL "quantise.c"
#include "philox_block.h"
#include "real.h"
#else

#define GROUP PDCODE_GROUP
#define INFINITE 0x7F800000u    /* bits of infinity */
#define LARGEST_BF16 0x7F7F0000u /* the largest bfloat16 */
#define LARGEST_F16 0x477FE000u  /* 65504 */
#define NORMAL_F16 0x38800000u   /* 2^-14, the least normal float16 */
#define LEAST_INT8 0x03FE0000u   /* 127 * 2^-126: the least maximum whose scale is a normal number */
#define MOST_INT8 0x7F7FFFF0u    /* up to here 127 times the scale cannot overflow */

#ifndef PDCODE_QUANTISE_COMMON
#define PDCODE_QUANTISE_COMMON
/* The 16-bit random numbers of `count` elements of a group. */
INLINE void lanes(const uint64_t key[2], const uint64_t place[3], ptrdiff_t group, uint16_t *restrict random,
                  ptrdiff_t count)
{
    uint64_t counter[4] = {(uint64_t)group * (GROUP / 16), place[0], place[1], place[2]};
    for (ptrdiff_t i = 0; i < count; i += 16) {
        uint64_t words[4];
        counter[0]++;
        philox(key, counter, words);
        for (int j = 0; j < 16; j++)
            random[i + j] = (uint16_t)(words[j / 4] >> j % 4 * 16);
    }
}

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

/* Largest magnitude as bits; their order is that of the numbers, NaN above infinity. */
INLINE uint32_t largest(const float *restrict x, ptrdiff_t count)
{
    uint32_t top = 0;
#pragma omp simd reduction(max : top)
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint32_t magnitude = bits_of(x[i]) & 0x7FFFFFFFu;
        top = magnitude > top ? magnitude : top;
    }
    return top;
}

INLINE void to_bfloat16(const float *restrict x, const uint16_t *restrict random, uint16_t *restrict out,
                        ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint32_t bits = bits_of(x[i]), magnitude = bits & 0x7FFFFFFFu, sign = bits >> 16 & 0x8000u;
        const uint32_t rounded = (magnitude + random[i]) >> 16;
        const uint32_t beyond = magnitude > INFINITE ? 0x7FC0u : 0x7F80u;
        out[i] = (uint16_t)(sign | (magnitude > LARGEST_BF16 ? beyond : rounded));
    }
}

INLINE void to_float16(const float *restrict x, const uint16_t *restrict random, uint16_t *restrict out,
                       ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint32_t bits = bits_of(x[i]), magnitude = bits & 0x7FFFFFFFu, sign = bits >> 16 & 0x8000u;
        const uint32_t normal = ((magnitude + (random[i] >> 3)) >> 13) - (112u << 10);
        const float small = float_of(magnitude < NORMAL_F16 ? magnitude : 0);
        const uint32_t denormal = ((uint32_t)(int32_t)(small * 0x1p40f + 0.5f) + random[i]) >> 16;
        const uint32_t beyond = magnitude > INFINITE ? 0x7E00u : 0x7C00u;
        const uint32_t finite = magnitude < NORMAL_F16 ? denormal : normal;
        out[i] = (uint16_t)(sign | (magnitude > LARGEST_F16 ? beyond : finite));
    }
}

INLINE void to_int8(const float *restrict x, float scale, const uint16_t *restrict random,
                    uint8_t *restrict out, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const float steps = float_of(bits_of(x[i]) & 0x7FFFFFFFu) / scale;
        const int32_t code = ((int32_t)(steps * 65536.0f + 0.5f) + random[i]) >> 16;
        const int32_t bounded = code > 127 ? 127 : code; /* 127 and a rounding error, which may go up */
        out[i] = (uint8_t)(x[i] < 0 ? -bounded : bounded);
    }
}

INLINE float from_float16(uint16_t half)
{
    const uint32_t magnitude = half & 0x7FFFu, sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t denormal = bits_of((float)(int32_t)magnitude * 0x1p-24f);
    const uint32_t normal = (magnitude << 13) + (112u << 23), beyond = magnitude << 13 | INFINITE;
    const uint32_t finite = magnitude < 0x0400u ? denormal : normal;
    return float_of(sign | (magnitude < 0x7C00u ? finite : beyond));
}
#endif

/* float64 and float32: no rounding but that to single precision, to nearest. */
INLINE int NAME(plain_encode)(int kind, const REAL *restrict source, ptrdiff_t length, uint8_t *out)
{
    int bad = 0;
    if (kind == PDCODE_FLOAT64) {
        double *restrict wide = (double *)(void *)out;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            wide[i] = (double)source[i];
            bad |= !(source[i] - source[i] == 0);
        }
    } else {
        float *restrict single = (float *)(void *)out;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            const float value = (float)source[i];
            single[i] = value;
            bad |= !(value - value == 0);
        }
    }
    return !bad;
}

/* Returns whether everything encoded is finite. place = (part, worker, task). */
VECTORISED
int NAME(quantise_encode)(int kind, const REAL *source, ptrdiff_t rows, ptrdiff_t elements,
                          const uint64_t key[2], const uint64_t place[3], uint8_t *out)
{
    if (kind != PDCODE_INT8) {
        elements *= rows;
        rows = 1;
    }
    if (kind == PDCODE_FLOAT64 || kind == PDCODE_FLOAT32)
        return NAME(plain_encode)(kind, source, elements, out);

    const ptrdiff_t groups = (elements + GROUP - 1) / GROUP;
    const uint32_t limit = kind == PDCODE_FLOAT16 ? LARGEST_F16 : LARGEST_BF16;
    float *scales = (float *)(void *)out, x[GROUP];
    uint16_t *halves = (uint16_t *)(void *)out, random[GROUP];
    uint8_t *codes = out + rows * groups * (ptrdiff_t)sizeof(float);
    int finite = 1;
    for (ptrdiff_t g = 0; g < rows * groups; g++) {
        const ptrdiff_t start = g % groups * GROUP, at = g / groups * elements + start;
        const ptrdiff_t count = elements - start < GROUP ? elements - start : GROUP;
        lanes(key, place, g, random, count);
#pragma omp simd
        for (ptrdiff_t i = 0; i < count; i++)
            x[i] = (float)source[at + i];
        const uint32_t top = largest(x, count);
        if (kind == PDCODE_BFLOAT16) {
            to_bfloat16(x, random, halves + at, count);
            finite &= top <= limit;
        } else if (kind == PDCODE_FLOAT16) {
            to_float16(x, random, halves + at, count);
            finite &= top <= limit;
        } else if (top >= LEAST_INT8 && top < INFINITE) {
            scales[g] = float_of(top < MOST_INT8 ? top : MOST_INT8) / 127.0f;
            to_int8(x, scales[g], random, codes + at, count);
        } else { /* negligible, or NaN, which the scale passes on to every element */
            scales[g] = top < LEAST_INT8 ? 0.0f : float_of(0x7FC00000u);
            memset(codes + at, 0, (size_t)count);
            finite &= top < LEAST_INT8;
        }
    }
    return finite;
}

/* Returns whether everything decoded is finite. */
VECTORISED
int NAME(quantise_decode)(int kind, const uint8_t *in, ptrdiff_t rows, ptrdiff_t elements, REAL *restrict out)
{
    const ptrdiff_t length = rows * elements, groups = (elements + GROUP - 1) / GROUP;
    int bad = 0;
    if (kind == PDCODE_FLOAT64) {
        const double *restrict wide = (const double *)(const void *)in;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            out[i] = (REAL)wide[i];
            bad |= !(out[i] - out[i] == 0);
        }
    } else if (kind == PDCODE_FLOAT32) {
        const float *restrict single = (const float *)(const void *)in;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            out[i] = (REAL)single[i];
            bad |= !(out[i] - out[i] == 0);
        }
    } else if (kind == PDCODE_BFLOAT16) {
        const uint16_t *restrict halves = (const uint16_t *)(const void *)in;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            out[i] = (REAL)float_of((uint32_t)halves[i] << 16);
            bad |= (halves[i] & 0x7F80) == 0x7F80;
        }
    } else if (kind == PDCODE_FLOAT16) {
        const uint16_t *restrict halves = (const uint16_t *)(const void *)in;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            out[i] = (REAL)from_float16(halves[i]);
            bad |= (halves[i] & 0x7C00) == 0x7C00;
        }
    } else {
        const float *scales = (const float *)(const void *)in;
        const int8_t *codes = (const int8_t *)in + rows * groups * (ptrdiff_t)sizeof(float);
        for (ptrdiff_t g = 0; g < rows * groups; g++) {
            const ptrdiff_t start = g % groups * GROUP, at = g / groups * elements + start;
            const ptrdiff_t count = elements - start < GROUP ? elements - start : GROUP;
            const REAL scale = (REAL)scales[g];
#pragma omp simd reduction(| : bad)
            for (ptrdiff_t i = 0; i < count; i++) {
                out[at + i] = (REAL)codes[at + i] * scale;
                bad |= !(out[at + i] - out[at + i] == 0);
            }
        }
    }
    return !bad;
}

#undef GROUP
#undef INFINITE
#undef LARGEST_BF16
#undef LARGEST_F16
#undef NORMAL_F16
#undef LEAST_INT8
#undef MOST_INT8
#endif
