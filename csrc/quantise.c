/* quantise.c: payloads as floating-point numbers of 8, 4 or 2 bytes, or as codes of 8, 4, 2 or 1 bits.
 *
 * Design note. source is (rows, elements). A row is cut into groups of GROUP elements, so that what one pass
 * leaves in the level 1 cache the next one finds there; formats without scales take the payload as one row.
 * Formats of codes store the float32 scales of all groups first, then the codes, packed group by group
 * (bits.h); a row begins at a byte. Codes are made strip by strip, in the order in which they share a byte, and
 * never stored unpacked.
 *
 * Stochastic rounding converts a number to a fixed-point number of steps of the format, adds a random number as
 * long as its fraction and drops the fraction: P(up) is the fraction. Fractions have 16 bits for bfloat16 and
 * float16, which makes normal numbers exactly unbiased, and 15 for codes: the bias is below 2^-16 of a step, and
 * 2^-22 of the number by which its product with 1/scale is rounded. The random numbers of a group are halves of
 * the words of random.h: the first half of its elements takes the lower ones.
 *
 * Means are sums of fixed-point numbers, which do not depend on their order; otherwise only integer and correctly
 * rounded single operations are used: the same bytes on every machine.
 */
#ifndef REAL
#include "quantise.h"
#define KERNEL "quantise.c"
#include "bits.h"
#include "random.h"
#include "real.h"
#else

#define GROUP PDCODE_GROUP
#define INFINITE 0x7F800000u    /* bits of infinity */
#define LARGEST_BF16 0x7F7F0000u /* the largest bfloat16 */
#define LARGEST_F16 0x477FE000u  /* 65504 */
#define NORMAL_F16 0x38800000u   /* 2^-14, the least normal float16 */
#define MOST_SCALE 0x7F7FFFF0u   /* up to here as many steps as a code has cannot overflow */
#define LEAST_SCALE 0x0B800000u  /* 2^-104: below, 1/scale with its fixed-point bits may overflow */
#define MAGIC 0x1.8p23f
#define MAGIC_BITS 0x4B400000u
#define SHARES 8 /* codes that may share a byte */

#ifndef PDCODE_QUANTISE_COMMON
#define PDCODE_QUANTISE_COMMON
/* Bits of a code, and scales of a group; 0 for formats without. */
static const struct {
    int bits, scales;
} CODES[PDCODE_FORMATS] = {
    [PDCODE_INT8] = {8, 1}, [PDCODE_INT4] = {4, 1}, [PDCODE_INT2] = {2, 2},
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

INLINE void to_bfloat16(const float *restrict x, const uint32_t *restrict words, const int shift,
                        uint16_t *restrict out, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint32_t bits = bits_of(x[i]), magnitude = bits & 0x7FFFFFFFu, sign = bits >> 16 & 0x8000u;
        const uint32_t rounded = (magnitude + (words[i] >> shift & 0xFFFFu)) >> 16;
        const uint32_t beyond = magnitude > INFINITE ? 0x7FC0u : 0x7F80u;
        out[i] = (uint16_t)(sign | (magnitude > LARGEST_BF16 ? beyond : rounded));
    }
}

INLINE void to_float16(const float *restrict x, const uint32_t *restrict words, const int shift,
                       uint16_t *restrict out, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint32_t bits = bits_of(x[i]), magnitude = bits & 0x7FFFFFFFu, sign = bits >> 16 & 0x8000u;
        const uint32_t random = words[i] >> shift & 0xFFFFu;
        const uint32_t normal = ((magnitude + (random >> 3)) >> 13) - (112u << 10);
        const float small = float_of(magnitude < NORMAL_F16 ? magnitude : 0);
        const uint32_t denormal = ((uint32_t)(int32_t)(small * 0x1p40f + 0.5f) + random) >> 16;
        const uint32_t beyond = magnitude > INFINITE ? 0x7E00u : 0x7C00u;
        const uint32_t finite = magnitude < NORMAL_F16 ? denormal : normal;
        out[i] = (uint16_t)(sign | (magnitude > LARGEST_F16 ? beyond : finite));
    }
}

/* The integer nearest to x, |x| <= 2^22, ties to even: what a sum with MAGIC adds to its bits. */
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

INLINE float from_float16(uint16_t half)
{
    const uint32_t magnitude = half & 0x7FFFu, sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t denormal = bits_of((float)(int32_t)magnitude * 0x1p-24f);
    const uint32_t normal = (magnitude << 13) + (112u << 23), beyond = magnitude << 13 | INFINITE;
    const uint32_t finite = magnitude < 0x0400u ? denormal : normal;
    return float_of(sign | (magnitude < 0x7C00u ? finite : beyond));
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
    uint16_t *halves = (uint16_t *)(void *)out;
    uint32_t words[RANDOM_ROOM];
    struct random random;
    uint8_t *codes = out + rows * groups * tables * (ptrdiff_t)sizeof(float);
    int finite = 1;
    if (keyed)
        random = random_at(key, place);
    for (ptrdiff_t g = 0; g < rows * groups; g++) {
        const ptrdiff_t row = g / groups, start = g % groups * GROUP, at = row * elements + start;
        const ptrdiff_t count = elements - start < GROUP ? elements - start : GROUP, half = (count + 1) / 2;
        if (keyed)
            random_words(&random, (uint32_t)(g * (GROUP / 8)), words, half);
        if (g + 1 < rows * groups)
            foresee(source + at + count, GROUP * (ptrdiff_t)sizeof(REAL));
        const float *x = NAME(single)(source + at, buffer, count);
        const uint32_t top = largest(x, count);
        if (kind == PDCODE_BFLOAT16) {
            to_bfloat16(x, words, 0, halves + at, half);
            to_bfloat16(x + half, words, 16, halves + at + half, count - half);
            finite &= top <= limit;
        } else if (kind == PDCODE_FLOAT16) {
            to_float16(x, words, 0, halves + at, half);
            to_float16(x + half, words, 16, halves + at + half, count - half);
            finite &= top <= limit;
        } else {
            uint8_t *packed = codes + row * packed_bytes(elements, bits) + start / 8 * bits;
            finite &= encode_group(kind, x, top, words, scales + g * tables, packed, count);
        }
    }
    return finite;
}

/* out = one of two mean magnitudes, with its sign; returns whether both are finite. */
INLINE int NAME(from_bins)(const float means[2], const uint8_t *restrict codes, REAL *restrict out,
                           ptrdiff_t count)
{
    const REAL low = (REAL)means[0], high = (REAL)means[1];
    const ptrdiff_t bytes = packed_bytes(count, 2);
    for (int strip = 0; strip < 4; strip++, out += bytes, count -= bytes) {
        const ptrdiff_t end = count < bytes ? count : bytes;
#pragma omp simd
        for (ptrdiff_t j = 0; j < end; j++) {
            const uint32_t code = (uint32_t)codes[j] >> 2 * strip;
            const REAL mean = code & 1 ? high : low;
            out[j] = code & 2 ? -mean : mean;
        }
    }
    return (low - low) + (high - high) == 0;
}

/* Returns whether the group is finite. */
INLINE int NAME(decode_group)(int kind, const float *restrict scales, const uint8_t *restrict packed,
                              REAL *restrict out, ptrdiff_t count)
{
    const REAL scale = (REAL)scales[0], most = scale * (kind == PDCODE_INT8 ? 127 : 7);
    uint8_t codes[GROUP];
    int8_t levels[GROUP];
    if (kind == PDCODE_INT2)
        return NAME(from_bins)(scales, packed, out, count);
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
#undef MOST_SCALE
#undef LEAST_SCALE
#undef MAGIC
#undef MAGIC_BITS
#undef SHARES
#endif
