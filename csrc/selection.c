/* selection.c: the largest elements of a vector, or of each chunk of it; random elements; indices in few bits.
 *
 * Design note. For the largest, a threshold that somewhat more than enough elements reach is guessed from a
 * sample, or put somewhat below the one of the chunk before, as much as has proved right; one pass gathers these
 * candidates, among which the exact one is found by bisection, counting (largest.h). Bound by that pass, which
 * reads each element once. If the guess was wrong (too few candidates, or more than fit), bisection counts in the
 * whole vector, some thirty times slower. The result is exact in any case.
 *
 * Indices of b bits are packed as bits.h says, MOST_CODES at a time, in planes: 8 bits first while there are as
 * many left, then 4, 2 and 1.
 */
#ifndef REAL
#include "selection.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif
#define KERNEL "selection.c"
#include "bits.h"
#include "philox_block.h"
#include "real.h"
#else
#include "largest.h"

#define SAMPLE 1024 /* elements of a sample at the most; at least SPARSE times as many are in the vector */
#define SPARSE 16
#define AHEAD 1024 /* elements to prefetch */
#define FEW 4 /* elements of 64 that are written without asking whether there are so many */

#ifndef PDCODE_SELECTION_COMMON
#define PDCODE_SELECTION_COMMON
INLINE int ones(uint64_t word)
{
#ifdef __GNUC__
    return __builtin_popcountll(word);
#else
    int count = 0;
    for (; word; word &= word - 1)
        count++;
    return count;
#endif
}

INLINE int trailing(uint64_t word)
{
#ifdef __GNUC__
    return __builtin_ctzll(word);
#else
    return ones((word & -word) - 1);
#endif
}

#if defined(__x86_64__) && defined(__GNUC__)
#define COMPRESSES 16 /* elements */
/* The elements that reach a magnitude, and their places; -1 if they may not fit. AVX-512 has an instruction for
 * it, which compilers do not find. */
__attribute__((target("avx512f"))) static ptrdiff_t compress(const float *x, ptrdiff_t count, uint32_t least,
                                                             float *values, int32_t *places, ptrdiff_t room)
{
    const __m512i low = _mm512_set1_epi32((int)least), sign = _mm512_set1_epi32((int)0x80000000u);
    const __m512i step = _mm512_set1_epi32(COMPRESSES);
    __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    ptrdiff_t held = 0;
    for (ptrdiff_t i = 0; i < count; i += COMPRESSES, at = _mm512_add_epi32(at, step)) {
        const __m512i bits = _mm512_loadu_si512(x + i);
        const __mmask16 found = _mm512_cmpge_epu32_mask(_mm512_andnot_si512(sign, bits), low);
        if (held + COMPRESSES > room)
            return -1;
        PREFETCH(x + i + AHEAD);
        _mm512_storeu_si512(values + held, _mm512_maskz_compress_epi32(found, bits));
        _mm512_storeu_si512(places + held, _mm512_maskz_compress_epi32(found, at));
        held += __builtin_popcount(found);
    }
    return held;
}
#endif

/* Bits of the next plane. */
INLINE int plane(int left)
{
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

ptrdiff_t selection_bytes(ptrdiff_t count, int bits)
{
    ptrdiff_t bytes = count / MOST_CODES * (MOST_CODES / 8) * bits;
    for (int left = bits; left > 0; left -= plane(left))
        bytes += packed_bytes(count % MOST_CODES, plane(left));
    return bytes;
}

VECTORISED
void selection_pack(const int32_t *numbers, ptrdiff_t count, int bits, uint8_t *out)
{
    for (ptrdiff_t start = 0; start < count; start += MOST_CODES) {
        const ptrdiff_t some = count - start < MOST_CODES ? count - start : MOST_CODES;
        for (int first = 0; first < bits;) {
            const int width = plane(bits - first);
            pack(numbers + start, first, some, width, out);
            out += packed_bytes(some, width);
            first += width;
        }
    }
}

VECTORISED
void selection_unpack(const uint8_t *in, ptrdiff_t count, int bits, int32_t *restrict numbers)
{
    uint8_t codes[MOST_CODES];
    for (ptrdiff_t start = 0; start < count; start += MOST_CODES) {
        const ptrdiff_t some = count - start < MOST_CODES ? count - start : MOST_CODES;
        memset(numbers + start, 0, (size_t)some * sizeof *numbers);
        for (int first = 0; first < bits;) {
            const int width = plane(bits - first);
            unpack(in, some, width, codes);
#pragma omp simd
            for (ptrdiff_t i = 0; i < some; i++)
                numbers[start + i] |= (int32_t)((uint32_t)codes[i] << first);
            in += packed_bytes(some, width);
            first += width;
        }
    }
}

/* `count` of the numbers below `bound`, every set of them as likely, ascending: Floyd's algorithm (Bentley and
 * Floyd, "A sample of brilliance", Communications of the ACM 1987). marks are zero, a bit for each number, and
 * zero again at the end. place = (part, worker, task). */
void selection_sample(int32_t bound, int32_t *out, ptrdiff_t count, const uint64_t key[2],
                      const uint64_t place[3], uint64_t *marks)
{
    uint64_t counter[4] = {0, place[0], place[1], place[2]}, random[4], drawn;
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint64_t last = (uint64_t)bound - (uint64_t)count + (uint64_t)i;
        if (i % 4 == 0)
            counter[0]++, philox(key, counter, random);
        multiply(random[i % 4], last + 1, &drawn);
        const uint64_t mine = marks[drawn / 64] >> drawn % 64 & 1 ? last : drawn;
        marks[mine / 64] |= (uint64_t)1 << mine % 64;
    }
    for (int32_t word = 0; word < (bound + 63) / 64; word++)
        for (; marks[word]; marks[word] &= marks[word] - 1)
            *out++ = 64 * word + trailing(marks[word]);
}
#endif

/* A magnitude that more than `size` elements reach, probably; 0 if it cannot be said. */
INLINE BITS NAME(guess)(const REAL *restrict x, ptrdiff_t count, ptrdiff_t size)
{
    const ptrdiff_t number = count / SPARSE < SAMPLE ? count / SPARSE : SAMPLE;
    const ptrdiff_t stride = number > 0 ? count / number : 0;
    const double expected = (double)size * (double)number / (double)count;
    const ptrdiff_t rank = (ptrdiff_t)(expected + 3 * sqrt(expected)) + 3;
    REAL sample[SAMPLE];
    if (rank >= number)
        return 0;
    for (ptrdiff_t i = 0; i < number; i++) { /* at irregular distances: vectors may be periodic */
        const uint32_t scattered = (uint32_t)i * 0x9E3779B1u;
        sample[i] = x[i * stride + (ptrdiff_t)((uint64_t)scattered * (uint64_t)stride >> 32)];
    }
    return NAME(bisect)(sample, number, rank, rank + rank / 4, 0);
}

/* Bit i: whether element i of at most 64 reaches a magnitude. */
INLINE uint64_t NAME(mark)(const REAL *restrict x, ptrdiff_t count, BITS least)
{
    uint64_t word = 0;
    uint32_t low = 0, high = 0;
    if (count < 64) {
        for (ptrdiff_t i = 0; i < count; i++)
            word |= (uint64_t)(NAME(magnitude)(x[i]) >= least) << i;
        return word;
    }
#pragma omp simd reduction(| : low, high)
    for (int i = 0; i < 32; i++) {
        low |= (uint32_t)(NAME(magnitude)(x[i]) >= least) << i;
        high |= (uint32_t)(NAME(magnitude)(x[32 + i]) >= least) << i;
    }
    return low | (uint64_t)high << 32;
}

/* Elements that reach a magnitude, and their places; returns how many, or -1 if they may not fit. */
INLINE ptrdiff_t NAME(gather)(const REAL *restrict x, ptrdiff_t count, BITS least, REAL *restrict values,
                              int32_t *restrict places, ptrdiff_t room)
{
    ptrdiff_t held = 0, begin = 0, known = 0; /* elements; values already gathered */
#ifdef COMPRESSES
    if (sizeof(REAL) == sizeof(float) && __builtin_cpu_supports("avx512f")) {
        begin = count / COMPRESSES * COMPRESSES;
        held = compress((const float *)(const void *)x, begin, (uint32_t)least,
                        (float *)(void *)values, places, room);
        if (held < 0)
            return -1;
        known = held;
    }
#endif
    for (ptrdiff_t start = begin; start < count; start += 64) {
        uint64_t word = NAME(mark)(x + start, count - start, least);
        const ptrdiff_t end = held + ones(word);
        if (end + FEW > room)
            return -1;
        for (ptrdiff_t i = held; i < held + FEW; i++, word &= word - 1) /* as a rule, that is all */
            places[i] = (int32_t)start + trailing(word | (uint64_t)1 << 63);
        for (ptrdiff_t i = held + FEW; i < end; i++, word &= word - 1)
            places[i] = (int32_t)start + trailing(word);
        held = end;
    }
    for (ptrdiff_t i = known; i < held; i++)
        values[i] = x[places[i]];
    return held;
}

/* Indices of the `most` largest elements of each chunk of `chunk` (of a short last one all, if it has fewer),
 * ascending. values and places are scratch, for `room` candidates. */
VECTORISED
void NAME(selection_largest)(const REAL *vector, ptrdiff_t length, ptrdiff_t chunk, ptrdiff_t most,
                             int32_t *out, REAL *values, int32_t *places, ptrdiff_t room)
{
    BITS last = 0, margin = (BITS)1 << (8 * sizeof(BITS) > 32 ? 48 : 19); /* a sixteenth, at first */
    for (ptrdiff_t start = 0; start < length; start += chunk) {
        const ptrdiff_t count = length - start < chunk ? length - start : chunk;
        const ptrdiff_t size = most < count ? most : count;
        const REAL *x = vector + start;
        BITS least = last > margin ? last - margin : 0;
        ptrdiff_t held = -1;
        last = 0;
        if (least > 0 && size < count / 2)
            held = NAME(gather)(x, count, least, values, places, room);
        if (held < size && size < count / 2) {
            if (held < 0)
                margin -= least > 0 ? margin / 2 : 0; /* the threshold was far too low */
            else
                margin += margin / 2;
            least = NAME(guess)(x, count, size);
            least = least > 0 ? least : 1;
            held = NAME(gather)(x, count, least, values, places, room);
        } else if (held > size + size / 2 + FEW)
            margin -= margin / 8;
        if (held >= size) {
            last = NAME(bisect)(values, held, size, size, least);
            NAME(take)(values, held, size, last, places, (int32_t)start, out);
        } else { /* with a guess of 1, too few are not 0 */
            const BITS exact = held >= 0 && least == 1 ? 0 : NAME(bisect)(x, count, size, size, 0);
            NAME(take)(x, count, size, exact, NULL, (int32_t)start, out);
        }
        out += size;
    }
}

#undef SAMPLE
#undef SPARSE
#undef FEW
#undef AHEAD
#undef HIGHEST
#endif
