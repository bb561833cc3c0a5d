/* quantise.c: payloads as floating-point numbers of 8, 4 or 2 bytes, or as codes of 8, 4, 2 or 1 bits.
 *
 * Design note. source is (rows, elements). A row is cut into groups of GROUP elements, so that what one pass
 * leaves in the level 1 cache the next one finds there; formats without scales take the payload as one row.
 * Formats of codes store the float32 scales of all groups first, then the codes, packed group by group
 * (bits.h); a row begins at a byte.
 *
 * Stochastic rounding converts a magnitude to a fixed-point number of steps of the format with 16 fractional
 * bits, adds a random number of 16 bits and drops the fraction: P(up) is the fraction, to 2^-17 of a step
 * (exactly for bfloat16 and normal numbers of float16). Element c of group G takes bits 16 (c mod 4) ... of
 * number c / 4 of the 256 that Philox blocks 1 + 64 G ... give. Bound by these: 0.9 ns of 1.4 ns per element;
 * the rest vectorises. Means are sums of fixed-point numbers, which do not depend on their order; otherwise
 * only integer and correctly rounded single operations are used: the same bytes on every machine.
 */
#ifndef REAL
#include "quantise.h"
#define KERNEL "quantise.c"
#include "bits.h"
#include "philox_block.h"
#include "real.h"
#else

#define GROUP PDCODE_GROUP
#define INFINITE 0x7F800000u    /* bits of infinity */
#define LARGEST_BF16 0x7F7F0000u /* the largest bfloat16 */
#define LARGEST_F16 0x477FE000u  /* 65504 */
#define NORMAL_F16 0x38800000u   /* 2^-14, the least normal float16 */
#define LEAST_SCALE 0x03FE0000u  /* 127 * 2^-126: the least maximum whose scale is a normal number */
#define MOST_SCALE 0x7F7FFFF0u   /* up to here as many steps as a code has cannot overflow */
#define LEAST_MEAN 0x0A000000u   /* 2^-107: the least maximum that `fixed` converts */

#ifndef PDCODE_QUANTISE_COMMON
#define PDCODE_QUANTISE_COMMON
/* Bits of a code, and scales of a group; 0 for formats without. */
static const struct {
    int bits, scales;
} CODES[PDCODE_FORMATS] = {
    [PDCODE_INT8] = {8, 1}, [PDCODE_INT4] = {4, 1}, [PDCODE_INT2] = {2, 4},
    [PDCODE_SIGN] = {1, 1}, [PDCODE_QSGD] = {4, 1},
};

/* Bytes of a payload without padding. */
ptrdiff_t quantise_bytes(int kind, ptrdiff_t rows, ptrdiff_t elements)
{
    const ptrdiff_t groups = (elements + GROUP - 1) / GROUP;
    if (kind < PDCODE_INT8)
        return rows * elements * (kind == PDCODE_FLOAT64 ? 8 : kind == PDCODE_FLOAT32 ? 4 : 2);
    return rows * (groups * CODES[kind].scales * (ptrdiff_t)sizeof(float)
                   + packed_bytes(elements, CODES[kind].bits));
}

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

/* Codes from -levels to levels, stochastically rounded. */
INLINE void to_levels(const float *restrict x, float scale, const uint16_t *restrict random, int32_t levels,
                      int32_t *restrict codes, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const float steps = float_of(bits_of(x[i]) & 0x7FFFFFFFu) / scale;
        const int32_t code = ((int32_t)(steps * 65536.0f + 0.5f) + random[i]) >> 16;
        const int32_t bounded = code > levels ? levels : code; /* `levels` and a rounding error may go up */
        codes[i] = x[i] < 0 ? -bounded : bounded;
    }
}

INLINE int32_t nearest(float x)
{
    return (int32_t)(x + float_of((bits_of(x) & 0x80000000u) | 0x3F000000u)); /* half, with the sign of x */
}

/* Factor that brings magnitudes of this exponent from 2^19 to 2^20: rounded to integers, the magnitudes of a
 * group then have a sum of at most 31 bits. `mean_of` undoes it. */
INLINE float fixed(uint32_t exponent)
{
    return float_of((273 - exponent) << 23);
}

INLINE float mean_of(int32_t sum, ptrdiff_t count, uint32_t exponent)
{
    const float mean = (float)((double)sum / (double)count), most = 0x1.FFFFFEp19f; /* that is no infinity */
    const float bounded = mean > most ? most : mean < -most ? -most : mean;
    return bounded * float_of((exponent - 19) << 23);
}

/* Signs (1 if negative), and the mean magnitude. */
INLINE void to_signs(const float *restrict x, uint32_t exponent, float *restrict mean,
                     int32_t *restrict codes, ptrdiff_t count)
{
    const float factor = fixed(exponent);
    int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < count; i++) {
        sum += nearest(float_of(bits_of(x[i]) & 0x7FFFFFFFu) * factor);
        codes[i] = (int32_t)(bits_of(x[i]) >> 31);
    }
    *mean = mean_of(sum, count, exponent);
}

/* Bins of four, from below, between three edges: sums and numbers of their elements. */
INLINE void to_bins(const int32_t *restrict x, const int32_t edges[3], int32_t total, int32_t sums[4],
                    int32_t counts[4], int32_t *restrict codes, ptrdiff_t count)
{
    const int32_t e0 = edges[0], e1 = edges[1], e2 = edges[2];
    int32_t s0 = 0, s1 = 0, s2 = 0, n0 = 0, n1 = 0, n2 = 0; /* of what is above each edge */
#pragma omp simd reduction(+ : s0, s1, s2, n0, n1, n2)
    for (ptrdiff_t i = 0; i < count; i++) {
        const int32_t above0 = -(x[i] > e0), above1 = -(x[i] > e1), above2 = -(x[i] > e2);
        s0 += above0 & x[i], s1 += above1 & x[i], s2 += above2 & x[i];
        n0 -= above0, n1 -= above1, n2 -= above2;
        codes[i] = -(above0 + above1 + above2);
    }
    sums[0] = total - s0, sums[1] = s0 - s1, sums[2] = s1 - s2, sums[3] = s2;
    counts[0] = (int32_t)count - n0, counts[1] = n0 - n1, counts[2] = n1 - n2, counts[3] = n2;
}

/* Bins, and their means. The first edges lie at the mean and 1.25 mean deviations beside it; then each is put
 * midway between the means of its bins (a step of Lloyd's algorithm), which does not add to the squared
 * error. */
INLINE void to_bin_means(const float *restrict x, uint32_t exponent, float means[4], int32_t *restrict codes,
                         ptrdiff_t count)
{
    const float factor = fixed(exponent);
    int32_t values[GROUP], sums[4], counts[4], total = 0, deviation = 0;
#pragma omp simd reduction(+ : total)
    for (ptrdiff_t i = 0; i < count; i++) {
        values[i] = nearest(x[i] * factor);
        total += values[i];
    }
    const int32_t mean = total / (int32_t)count;
#pragma omp simd reduction(+ : deviation)
    for (ptrdiff_t i = 0; i < count; i++)
        deviation += values[i] < mean ? mean - values[i] : values[i] - mean;
    deviation /= (int32_t)count;
    deviation += deviation / 4;
    int32_t edges[3] = {mean - deviation, mean, mean + deviation};
    to_bins(values, edges, total, sums, counts, codes, count);
    for (int b = 0; b < 3; b++)
        if (counts[b] > 0 && counts[b + 1] > 0)
            edges[b] = (sums[b] / counts[b] + sums[b + 1] / counts[b + 1]) / 2;
    to_bins(values, edges, total, sums, counts, codes, count);
    for (int b = 0; b < 4; b++)
        means[b] = counts[b] > 0 ? mean_of(sums[b], counts[b], exponent) : 0;
}

/* Scales and packed codes of a group; returns whether it is finite. `top`: bits of its largest magnitude. */
INLINE int encode_group(int kind, const float *restrict x, uint32_t top, const uint16_t *restrict random,
                        float *restrict scales, uint8_t *restrict out, ptrdiff_t count)
{
    const uint32_t least = kind == PDCODE_INT2 || kind == PDCODE_SIGN ? LEAST_MEAN : LEAST_SCALE;
    const int32_t levels = kind == PDCODE_INT8 ? 127 : 7;
    int32_t codes[GROUP];
    if (top < least || top >= INFINITE) { /* negligible, or NaN, which the scales pass on to all elements */
        for (int i = 0; i < CODES[kind].scales; i++)
            scales[i] = top < least ? 0.0f : float_of(0x7FC00000u);
        memset(out, 0, (size_t)packed_bytes(count, CODES[kind].bits));
        return top < least;
    }
    if (kind == PDCODE_INT2)
        to_bin_means(x, top >> 23, scales, codes, count);
    else if (kind == PDCODE_SIGN)
        to_signs(x, top >> 23, scales, codes, count);
    else {
        scales[0] = float_of(top < MOST_SCALE ? top : MOST_SCALE) / (float)levels;
        if (kind == PDCODE_INT4) {
            const float inverse = 1.0f / scales[0];
#pragma omp simd
            for (ptrdiff_t i = 0; i < count; i++)
                codes[i] = nearest(x[i] * inverse);
        } else
            to_levels(x, scales[0], random, levels, codes, count);
    }
    pack(codes, 0, count, CODES[kind].bits, out);
    return 1;
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

/* The source in single precision: itself, or rounded to nearest into a buffer. */
INLINE const float *NAME(single)(const REAL *restrict source, float *restrict buffer, ptrdiff_t count)
{
    if (sizeof(REAL) == sizeof(float))
        return (const float *)(const void *)source;
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        buffer[i] = (float)source[i];
    return buffer;
}

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
    if (kind < PDCODE_INT8) {
        elements *= rows;
        rows = 1;
    }
    if (kind == PDCODE_FLOAT64 || kind == PDCODE_FLOAT32)
        return NAME(plain_encode)(kind, source, elements, out);

    const ptrdiff_t groups = (elements + GROUP - 1) / GROUP;
    const uint32_t limit = kind == PDCODE_FLOAT16 ? LARGEST_F16 : LARGEST_BF16;
    const int keyed = kind != PDCODE_INT4 && kind != PDCODE_INT2 && kind != PDCODE_SIGN;
    const int bits = CODES[kind].bits, tables = CODES[kind].scales;
    float *scales = (float *)(void *)out, buffer[GROUP];
    uint16_t *halves = (uint16_t *)(void *)out, random[GROUP];
    uint8_t *codes = out + rows * groups * tables * (ptrdiff_t)sizeof(float);
    int finite = 1;
    for (ptrdiff_t g = 0; g < rows * groups; g++) {
        const ptrdiff_t row = g / groups, start = g % groups * GROUP, at = row * elements + start;
        const ptrdiff_t count = elements - start < GROUP ? elements - start : GROUP;
        if (keyed)
            lanes(key, place, g, random, count);
        const float *x = NAME(single)(source + at, buffer, count);
        const uint32_t top = largest(x, count);
        if (kind == PDCODE_BFLOAT16) {
            to_bfloat16(x, random, halves + at, count);
            finite &= top <= limit;
        } else if (kind == PDCODE_FLOAT16) {
            to_float16(x, random, halves + at, count);
            finite &= top <= limit;
        } else {
            uint8_t *packed = codes + row * packed_bytes(elements, bits) + start / 8 * bits;
            finite &= encode_group(kind, x, top, random, scales + g * tables, packed, count);
        }
    }
    return finite;
}

/* out = one of four bin means; returns whether all are finite. */
INLINE int NAME(from_bins)(const float means[4], const uint8_t *restrict codes, REAL *restrict out,
                           ptrdiff_t count)
{
    const REAL a = (REAL)means[0], b = (REAL)means[1], c = (REAL)means[2], d = (REAL)means[3];
    int32_t bins[GROUP]; /* choosing by bytes does not vectorise well */
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        bins[i] = codes[i];
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const REAL low = bins[i] & 1 ? b : a, high = bins[i] & 1 ? d : c;
        out[i] = bins[i] & 2 ? high : low;
    }
    return (a - a) + (b - b) + (c - c) + (d - d) == 0;
}

/* Returns whether the group is finite. */
INLINE int NAME(decode_group)(int kind, const float *restrict scales, const uint8_t *restrict packed,
                              REAL *restrict out, ptrdiff_t count)
{
    const REAL scale = (REAL)scales[0], most = scale * (kind == PDCODE_INT8 ? 127 : 7);
    uint8_t codes[GROUP];
    int8_t levels[GROUP];
    if (kind != PDCODE_INT8)
        unpack(packed, count, CODES[kind].bits, codes);
    if (kind == PDCODE_INT2)
        return NAME(from_bins)(scales, codes, out, count);
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
    return most - most == 0; /* the largest magnitude that there may be */
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
        const int bits = CODES[kind].bits, tables = CODES[kind].scales;
        const float *scales = (const float *)(const void *)in;
        const uint8_t *packed = in + rows * groups * tables * (ptrdiff_t)sizeof(float);
        for (ptrdiff_t g = 0; g < rows * groups; g++) {
            const ptrdiff_t row = g / groups, start = g % groups * GROUP, at = row * elements + start;
            const ptrdiff_t count = elements - start < GROUP ? elements - start : GROUP;
            const uint8_t *codes = packed + row * packed_bytes(elements, bits) + start / 8 * bits;
            bad |= !NAME(decode_group)(kind, scales + g * tables, codes, out + at, count);
        }
    }
    return !bad;
}

#undef GROUP
#undef INFINITE
#undef LARGEST_BF16
#undef LARGEST_F16
#undef NORMAL_F16
#undef LEAST_SCALE
#undef MOST_SCALE
#undef LEAST_MEAN
#endif
