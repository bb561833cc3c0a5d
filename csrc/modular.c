/* modular.c: payloads as integers modulo 2^bits, their sums, and the checks of the sums.
 *
 * Design note. A payload is cut into groups; a group is a block of words: the integers in lanes of
 * `bits` bits, ⌊64 / bits⌋ a word; a checksum; and a word of counts, used in the first block only.
 * Blocks are added one by one, in any order: lanes modulo 2^bits, the other two words modulo 2^64.
 *
 * The checksum of integers q_i, unreduced, is Σ w_i q_i modulo 2^64, with fixed weights without a pattern.
 * The checksum of a sum whose lanes miss t_i 2^bits differs by 2^bits Σ t_i w_i, which gives Σ t_i w_i modulo
 * 2^(64 - bits). One wrap, |t_i| = 1, is mended: the sum is one of the 2,048 numbers ±w_i. Σ |t_i| = 2 or 3 is
 * always found and never taken for one wrap, and Σ |t_i| = 4 is always found: modulo 2^48 the sums of two
 * weights, of either sign, are distinct and no weights (tests/kernels/test_kernels_modular.py compares all).
 * Any other t looks like one wrap, or like none, as often as a random number: once in 2^(53 - bits) groups.
 *
 * Nobody knows the scale of a group before its first sum. With scale 0 all integers are 0, and the checksum
 * is the largest magnitude in fixed point: the sum of them bounds every element of the sum. After a sum of
 * zeros the scale is negated, with the same effect: if that bound shows that the scale was too large, it is
 * halved. Fixed point has magnitudes from 2^-23 to 2^24. If all are below, the scale is halved until a sum is
 * not zero; if some are above, sums are lost, and the scale grows until they are not.
 */
#ifndef REAL
#include "modular.h"

/* Weights of checksums: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) from a seed, the first bits of π. From
 * seed 0, some weights are twice others. */
#define MIXED(z, shift, factor) (((z) ^ ((z) >> (shift))) * UINT64_C(factor))
#define STATE(i) (((i) + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15) + UINT64_C(0x243f6a8885a308d3))
#define WEIGHT(i) MIXED(MIXED(STATE(i), 30, 0xbf58476d1ce4e5b9), 27, 0x94d049bb133111eb)
#define WEIGHTS_4(i) WEIGHT(i), WEIGHT((i) + 1), WEIGHT((i) + 2), WEIGHT((i) + 3)
#define WEIGHTS_16(i) WEIGHTS_4(i), WEIGHTS_4((i) + 4), WEIGHTS_4((i) + 8), WEIGHTS_4((i) + 12)
#define WEIGHTS_64(i) WEIGHTS_16(i), WEIGHTS_16((i) + 16), WEIGHTS_16((i) + 32), WEIGHTS_16((i) + 48)
#define WEIGHTS_256(i) WEIGHTS_64(i), WEIGHTS_64((i) + 64), WEIGHTS_64((i) + 128), WEIGHTS_64((i) + 192)
static const uint64_t WEIGHTS[PDCODE_MODULAR_GROUP] = {WEIGHTS_256(0), WEIGHTS_256(256), WEIGHTS_256(512),
                                                       WEIGHTS_256(768)};

#define KERNEL "modular.c"
#include "real.h"

/* Lanes are added without their highest bits, which are then added without a carry. */
VECTORISED
void modular_add(uint64_t *restrict total, const uint64_t *restrict words, ptrdiff_t blocks, ptrdiff_t block,
                 int bits)
{
    uint64_t high = 0;
    for (int lane = 1; lane <= 64 / bits; lane++)
        high |= (uint64_t)1 << (lane * bits - 1);
    for (ptrdiff_t number = 0; number < blocks; number++, total += block, words += block) {
        const ptrdiff_t lanes = block - PDCODE_MODULAR_EXTRA;
#pragma omp simd
        for (ptrdiff_t i = 0; i < lanes; i++)
            total[i] = ((total[i] & ~high) + (words[i] & ~high)) ^ ((total[i] ^ words[i]) & high);
        for (ptrdiff_t i = lanes; i < block; i++)
            total[i] += words[i];
    }
}
#else

#define MOST 0x1p40    /* bound on an integer */
#define LARGEST 0x1p24 /* bound on a magnitude in fixed point: 2^16 magnitudes add up to less than 2^64 */
#define POINT 0x1p23   /* one in fixed point */
/* Bounds on scales that the range of fixed point does not suffice to find; their inverses are finite too. */
#define FINEST 0x1p-100
#define COARSEST 0x1p100

/* Integers of a payload, which is rounded in place; returns whether it is finite. */
int NAME(modular_encode)(REAL *restrict payload, ptrdiff_t length, const float *restrict scales,
                         ptrdiff_t blocks, ptrdiff_t group, uint64_t *restrict words, ptrdiff_t block,
                         int bits)
{
    const ptrdiff_t lanes = 64 / bits;
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    int finite = 1;
    for (ptrdiff_t i = 0; i < length; i++)
        finite &= payload[i] - payload[i] == 0;
    memset(words, 0, (size_t)(blocks * block) * sizeof *words);
    words[block - 1] = (uint64_t)1 << PDCODE_MODULAR_COUNT;
    if (!finite) {
        words[block - 1] |= (uint64_t)1 << PDCODE_MODULAR_BROKEN;
        return 0;
    }
    for (ptrdiff_t number = 0; number < blocks; number++, words += block, payload += group, length -= group) {
        const ptrdiff_t count = length < group ? length : group;
        uint64_t sum = 0;
        if (scales[number] <= 0) {
            double largest = 0;
            for (ptrdiff_t i = 0; i < count; i++) {
                const double magnitude = fabs((double)payload[i]);
                largest = magnitude > largest ? magnitude : largest;
                payload[i] = 0;
            }
            sum = largest > 0 ? (uint64_t)((largest < LARGEST ? largest : LARGEST) * POINT) + 1 : 0;
        } else {
            const REAL scale = (REAL)scales[number], inverse = 1 / scale;
            for (ptrdiff_t i = 0; i < count; i++) {
                REAL steps = payload[i] * inverse;
                steps = steps > (REAL)MOST ? (REAL)MOST : steps < -(REAL)MOST ? -(REAL)MOST : steps;
                steps = sizeof(REAL) == sizeof(float) ? (REAL)rintf((float)steps) : (REAL)rint((double)steps);
                const uint64_t integer = (uint64_t)(int64_t)steps;
                payload[i] = steps * scale;
                words[i / lanes] |= (integer & mask) << (i % lanes * bits);
                sum += integer * WEIGHTS[i];
            }
        }
        words[block - PDCODE_MODULAR_EXTRA] = sum;
    }
    return 1;
}

/* The sums of payloads, and the scales of the next ones: `margin` times what the largest sum needs, at least
 * half of the last scale; not above 0 where that is unknown. Adds the groups that were mended and those that
 * were lost to `found`; the sums of a lost group are 0. */
void NAME(modular_decode)(const uint64_t *restrict words, ptrdiff_t blocks, ptrdiff_t block, int bits,
                          double margin, float *restrict scales, ptrdiff_t group, REAL *restrict sums,
                          ptrdiff_t length, int64_t *restrict found)
{
    const ptrdiff_t lanes = 64 / bits;
    const int64_t modulus = (int64_t)1 << bits;
    const double share = margin * 2 / (double)modulus;
    const uint64_t payloads = words[block - 1] >> PDCODE_MODULAR_COUNT;
    int32_t integers[PDCODE_MODULAR_GROUP + 1];
    for (ptrdiff_t number = 0; number < blocks; number++, words += block, sums += group, length -= group) {
        const ptrdiff_t count = length < group ? length : group;
        const float scale = scales[number];
        uint64_t off = words[block - PDCODE_MODULAR_EXTRA];
        if (scale <= 0) {
            const double bound = (double)off / POINT;
            const int below = off <= payloads && scale < -FINEST; /* nobody has more than a unit */
            const int coarse = scale < 0 && (below || bound <= -(double)scale * (double)payloads);
            memset(sums, 0, (size_t)count * sizeof *sums);
            scales[number] = off == 0 ? scale : coarse ? -scale / 2 : (float)(share * bound);
            continue;
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            const int64_t lane = (int64_t)(words[i / lanes] >> (i % lanes * bits)) & (modulus - 1);
            integers[i] = (int32_t)(lane < modulus / 2 ? lane : lane - modulus);
            off -= (uint64_t)(int64_t)integers[i] * WEIGHTS[i];
        }
        int lost = 0;
        if (off != 0) {
            ptrdiff_t place = 0;
            while (place < count && off != WEIGHTS[place] << bits && off != -(WEIGHTS[place] << bits))
                place++;
            lost = place == count;
            if (!lost)
                integers[place] += (int32_t)(off == WEIGHTS[place] << bits ? modulus : -modulus);
            found[lost]++;
        }
        int32_t largest = 0;
        for (ptrdiff_t i = 0; i < count; i++) {
            const int32_t magnitude = integers[i] < 0 ? -integers[i] : integers[i];
            largest = magnitude > largest ? magnitude : largest;
            sums[i] = lost ? 0 : (REAL)integers[i] * (REAL)scale;
        }
        const double next = share * (double)largest * (double)scale, least = (double)scale / 2;
        if (lost) /* a scale from magnitudes that were all within fixed point is found anew */
            scales[number] = scale < (float)(share * LARGEST) ? 0 : (float)fmin(16 * (double)scale, COARSEST);
        else
            scales[number] = largest == 0 ? -scale : (float)(next > least ? next : least);
    }
}

#undef MOST
#undef LARGEST
#undef POINT
#undef FINEST
#undef COARSEST
#endif
