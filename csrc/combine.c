/* combine.c: a GEMM whose right factor is a list of rows at arbitrary addresses.
 *
 * Design note. BLAS needs equally spaced rows. Gathering the payloads first costs a sixth of the product's time
 * with one BLAS thread and two fifths with two. Here nothing is packed: a column strip of WIDE vectors is read
 * directly from each payload, and GROUP rows of the result stay in registers over all payloads, with
 * GROUP * WIDE fused multiplications for WIDE + GROUP loads. A chunk of CHUNK bytes of every payload stays in
 * the second-level cache over all groups; meanwhile each group prefetches its share of the next chunk. Bound by
 * arithmetic from about 32 rows on, by bandwidth below.
 *
 * Every product is a fused multiply-add and sums run in the order of the payloads. The result is bit-identical
 * for any processor, column split and addresses, as replicas of a model on different machines require; BLAS
 * does not guarantee this. Processors before AVX2 use fma() of the C library.
 */
#ifndef REAL
#include <math.h>
#include <string.h>

#include "combine.h"
#include "simd.h"

#define CHUNK 1536

/* One number is a vector of one, where no other way is known. */
#define SCALAR(REAL, SUFFIX, FMA)                                                                \
    INLINE REAL scalar_setzero_##SUFFIX(void) { return 0; }                                     \
    INLINE REAL scalar_set1_##SUFFIX(REAL x) { return x; }                                      \
    INLINE REAL scalar_loadu_##SUFFIX(const REAL *from) { return *from; }                       \
    INLINE void scalar_storeu_##SUFFIX(REAL *to, REAL x) { *to = x; }                           \
    INLINE REAL scalar_fmadd_##SUFFIX(REAL x, REAL y, REAL z) { return FMA(x, y, z); }

SCALAR(float, ps, fmaf)
SCALAR(double, pd, fma)

#define REAL float
#define AIM
#define NAME(function) function##_scalar_f32
#define LINE float
#define OP(name) scalar_##name##_ps
#include "combine.c"
#define REAL double
#define AIM
#define NAME(function) function##_scalar_f64
#define LINE double
#define OP(name) scalar_##name##_pd
#include "combine.c"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define REAL float
#define AIM __attribute__((target("avx2,fma")))
#define NAME(function) function##_avx2_f32
#define LINE __m256
#define OP(name) _mm256_##name##_ps
#include "combine.c"
#define REAL double
#define AIM __attribute__((target("avx2,fma")))
#define NAME(function) function##_avx2_f64
#define LINE __m256d
#define OP(name) _mm256_##name##_pd
#include "combine.c"
#define REAL float
#define AIM __attribute__((target("avx512f")))
#define NAME(function) function##_avx512_f32
#define LINE __m512
#define OP(name) _mm512_##name##_ps
#include "combine.c"
#define REAL double
#define AIM __attribute__((target("avx512f")))
#define NAME(function) function##_avx512_f64
#define LINE __m512d
#define OP(name) _mm512_##name##_pd
#include "combine.c"
#define PICK(SUFFIX, ...)                                                    \
    if (__builtin_cpu_supports("avx512f"))                                   \
        combine_avx512_##SUFFIX(__VA_ARGS__);                                \
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) \
        combine_avx2_##SUFFIX(__VA_ARGS__);                                  \
    else                                                                     \
        combine_scalar_##SUFFIX(__VA_ARGS__)
#else
#define PICK(SUFFIX, ...) combine_scalar_##SUFFIX(__VA_ARGS__)
#endif

#define LOCATE(REAL, SUFFIX)                                                                             \
    void locate_##SUFFIX(const REAL *payload, ptrdiff_t rows, ptrdiff_t elements, uint64_t *addresses,  \
                         ptrdiff_t position)                                                             \
    {                                                                                                    \
        for (ptrdiff_t row = 0; row < rows; row++)                                                       \
            addresses[position + row] = (uint64_t)(uintptr_t)(payload + row * elements);                 \
    }

LOCATE(float, f32)
LOCATE(double, f64)

void combine_f32(const uint64_t *addresses, ptrdiff_t payloads, ptrdiff_t start, ptrdiff_t count,
                 const float *matrix, ptrdiff_t rows, float *out, ptrdiff_t stride)
{
    PICK(f32, addresses, payloads, start, count, matrix, rows, out, stride);
}

void combine_f64(const uint64_t *addresses, ptrdiff_t payloads, ptrdiff_t start, ptrdiff_t count,
                 const double *matrix, ptrdiff_t rows, double *out, ptrdiff_t stride)
{
    PICK(f64, addresses, payloads, start, count, matrix, rows, out, stride);
}

#else
#define LANES ((ptrdiff_t)(sizeof(LINE) / sizeof(REAL)))
#define WIDE 3
#define GROUP (sizeof(LINE) == 64 ? 8 : 4) /* 24 of 32 or 12 of 16 registers hold sums */

struct NAME(job) {
    const uint64_t *addresses;
    ptrdiff_t payloads, start;
    const REAL *matrix;
    ptrdiff_t rows;
    REAL *out;
    ptrdiff_t stride;
};

/* `wide` vectors of `group` rows; `valid` elements if it is a single partial vector. */
AIM INLINE void NAME(strip)(const struct NAME(job) *job, ptrdiff_t row, ptrdiff_t column, const int group,
                            const int wide, const ptrdiff_t valid)
{
    const REAL *m = job->matrix + row;
    REAL *out = job->out + row * job->stride + column;
    const ptrdiff_t from = job->start + column;
    LINE sums[8][WIDE], y[WIDE];
    REAL edge[sizeof(LINE) / sizeof(REAL)] = {0};
#pragma GCC unroll 8
    for (int j = 0; j < group; j++)
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++)
            sums[j][v] = OP(setzero)();
    for (ptrdiff_t i = 0; i < job->payloads; i++, m += job->rows) {
        const REAL *payload = (const REAL *)(uintptr_t)job->addresses[i] + from;
        if (valid < LANES) {
            memcpy(edge, payload, (size_t)valid * sizeof(REAL));
            payload = edge;
        }
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++)
            y[v] = OP(loadu)(payload + v * LANES);
#pragma GCC unroll 8
        for (int j = 0; j < group; j++) {
            const LINE factor = OP(set1)(m[j]);
#pragma GCC unroll 3
            for (int v = 0; v < wide; v++)
                sums[j][v] = OP(fmadd)(factor, y[v], sums[j][v]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < group; j++)
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++) {
            REAL *to = out + j * job->stride + v * LANES;
            if (valid < LANES) {
                OP(storeu)(edge, sums[j][v]);
                memcpy(to, edge, (size_t)valid * sizeof(REAL));
            } else
                OP(storeu)(to, sums[j][v]);
        }
}

/* Columns [first, last) of `group` rows; prefetches their share of the payloads `ahead` columns on. */
AIM INLINE void NAME(band)(const struct NAME(job) *job, ptrdiff_t row, ptrdiff_t first, ptrdiff_t last,
                           ptrdiff_t ahead, const int group)
{
    const ptrdiff_t begin = job->payloads * row / job->rows, end = job->payloads * (row + group) / job->rows;
    ptrdiff_t column = first;
    for (; column + WIDE * LANES <= last; column += WIDE * LANES) {
        for (ptrdiff_t i = begin; ahead && i < end; i++)
            for (ptrdiff_t byte = 0; byte < WIDE * (ptrdiff_t)sizeof(LINE); byte += 64)
                PREFETCH((const char *)(uintptr_t)job->addresses[i] + byte +
                         (job->start + column + ahead) * (ptrdiff_t)sizeof(REAL));
        NAME(strip)(job, row, column, group, WIDE, LANES);
    }
    for (; column + LANES <= last; column += LANES)
        NAME(strip)(job, row, column, group, 1, LANES);
    if (column < last)
        NAME(strip)(job, row, column, group, 1, last - column);
}

AIM static void NAME(combine)(const uint64_t *addresses, ptrdiff_t payloads, ptrdiff_t start, ptrdiff_t count,
                              const REAL *matrix, ptrdiff_t rows, REAL *out, ptrdiff_t stride)
{
    const struct NAME(job) job = {addresses, payloads, start, matrix, rows, out, stride};
    const ptrdiff_t chunk = CHUNK / (ptrdiff_t)sizeof(REAL);
    for (ptrdiff_t first = 0; first < count; first += chunk) {
        const ptrdiff_t last = first + chunk < count ? first + chunk : count;
        const ptrdiff_t ahead = last < count ? chunk : 0;
        ptrdiff_t row = 0;
        for (; row + GROUP <= rows; row += GROUP)
            NAME(band)(&job, row, first, last, ahead, GROUP);
        if (GROUP > 4 && row + 4 <= rows) {
            NAME(band)(&job, row, first, last, ahead, 4);
            row += 4;
        }
        if (row + 2 <= rows) {
            NAME(band)(&job, row, first, last, ahead, 2);
            row += 2;
        }
        if (row < rows)
            NAME(band)(&job, row, first, last, ahead, 1);
    }
}

#undef REAL
#undef AIM
#undef NAME
#undef LINE
#undef OP
#undef LANES
#undef WIDE
#undef GROUP
#endif
