/* quantise.c: payloads as floating-point numbers of 8, 4 or 2 bytes, or as codes of 8, 4, 2 or 1 bits.
 *
 * Design note. source is (rows, elements). A row is cut into groups of GROUP elements (group.h); formats without
 * scales take the payload as one row. Formats of codes store the float32 scales of all groups first, then the
 * codes, packed group by group; a row begins at a byte. float16 and bfloat16 are rounded as group.h says, but with
 * 16 fractional bits: exactly unbiased, denormal numbers of float16 to 2^-17 of a step.
 */
#ifndef REAL
#include "quantise.h"
#define KERNEL "quantise.c"
#include "real.h"
#else
#include "group.h"

#define LARGEST_BF16 0x7F7F0000u /* the largest bfloat16 */
#define LARGEST_F16 0x477FE000u  /* 65504 */
#define NORMAL_F16 0x38800000u   /* 2^-14, the least normal float16 */

#ifndef PDCODE_QUANTISE_COMMON
#define PDCODE_QUANTISE_COMMON
/* Bytes of a payload, padded to a multiple of 8. */
ptrdiff_t quantise_size(int kind, ptrdiff_t rows, ptrdiff_t elements)
{
    const ptrdiff_t groups = (elements + GROUP - 1) / GROUP;
    const ptrdiff_t bytes =
        kind < PDCODE_INT8 ? elements * (kind == PDCODE_FLOAT64 ? 8 : kind == PDCODE_FLOAT32 ? 4 : 2)
                           : groups * CODES[kind].scales * (ptrdiff_t)sizeof(float)
                                 + packed_bytes(elements, CODES[kind].bits);
    return (rows * bytes + 7) / 8 * 8;
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
int NAME(quantise_round)(int kind, const REAL *source, ptrdiff_t rows, ptrdiff_t elements,
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

/* Returns whether everything decoded is usable, see LARGEST_ELEMENT. */
VECTORISED
int NAME(quantise_decode)(int kind, const uint8_t *in, ptrdiff_t rows, ptrdiff_t elements, REAL *restrict out)
{
    const ptrdiff_t length = rows * elements, groups = (elements + GROUP - 1) / GROUP;
    const REAL largest_usable = (REAL)LARGEST_ELEMENT(sizeof(REAL));
    int bad = 0;
    if (kind == PDCODE_FLOAT64) {
        const double *restrict wide = (const double *)(const void *)in;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            out[i] = (REAL)wide[i];
            bad |= !(out[i] > -largest_usable && out[i] < largest_usable);
        }
    } else if (kind == PDCODE_FLOAT32) {
        const float *restrict single = (const float *)(const void *)in;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            out[i] = (REAL)single[i];
            bad |= !(out[i] > -largest_usable && out[i] < largest_usable);
        }
    } else if (kind == PDCODE_BFLOAT16) {
        const uint16_t *restrict halves = (const uint16_t *)(const void *)in;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = 0; i < length; i++) {
            out[i] = (REAL)float_of((uint32_t)halves[i] << 16);
            bad |= !(out[i] > -largest_usable && out[i] < largest_usable);
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
            bad |= !NAME(decode_group)(kind, scales + g * tables, codes, out + at, count, 0);
        }
    }
    return !bad;
}

#undef LARGEST_BF16
#undef LARGEST_F16
#undef NORMAL_F16

/* As quantise_round, with zeros as padding; decoded: NULL, or becomes what the payload decodes to. */
int NAME(quantise_encode)(int kind, const REAL *source, ptrdiff_t rows, ptrdiff_t elements,
                          const uint64_t key[2], const uint64_t place[3], uint8_t *out, ptrdiff_t size,
                          REAL *decoded)
{
    if (size)
        memset(out + size - 8, 0, 8);
    const int finite = NAME(quantise_round)(kind, source, rows, elements, key, place, out);
    if (decoded)
        NAME(quantise_decode)(kind, out, rows, elements, decoded);
    return finite;
}
#endif
