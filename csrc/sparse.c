/* sparse.c: forward pass and coded derivatives of a layer whose inputs A are rows of a CSR matrix.
 *
 * Design note. Sample s of the batch is row rows[s] of A: nonzeros indptr[row] ... indptr[row + 1] of columns
 * and data. weights (columns of A, units) with any strides, encoded (samples, coded), delta (samples, units),
 * codewords (count, blocks). Bound by loads: the inner loop runs over the contiguous axis, if possible `units`;
 * otherwise a row of weights or of out (one output, all columns) stays in a near cache for all nonzeros of the
 * batch, which are few.
 */
#ifndef REAL
#include "sparse.h"
#define KERNEL "sparse.c"
#include "real.h"
#else
#include "blocks.h"

/* out (samples, units) = A[rows] @ weights. */
VECTORISED
void NAME(csr_forward)(const int64_t *indptr, const int32_t *columns, const REAL *data, const int64_t *rows,
                       ptrdiff_t samples, const REAL *weights, ptrdiff_t column_stride, ptrdiff_t unit_stride,
                       REAL *out, ptrdiff_t units)
{
    if (unit_stride == 1 && units > 1) {
        memset(out, 0, (size_t)(samples * units) * sizeof(REAL));
        for (ptrdiff_t s = 0; s < samples; s++)
            for (int64_t i = indptr[rows[s]]; i < indptr[rows[s] + 1]; i++)
                NAME(add)(out + s * units, data[i], weights + columns[i] * column_stride, units);
        return;
    }
    for (ptrdiff_t u = 0; u < units; u++) {
        const REAL *row = weights + u * unit_stride;
        for (ptrdiff_t s = 0; s < samples; s++) {
            const int64_t first = indptr[rows[s]], last = indptr[rows[s] + 1];
            REAL sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = first; i < last; i++)
                sum += data[i] * row[columns[i] * column_stride];
            out[s * units + u] = sum;
        }
    }
}

/* out (coded, width) = encoded' @ A[rows]. */
void NAME(csr_outer)(const int64_t *indptr, const int32_t *columns, const REAL *data, const int64_t *rows,
                     ptrdiff_t samples, const REAL *encoded, ptrdiff_t coded, REAL *out, ptrdiff_t width)
{
    for (ptrdiff_t c = 0; c < coded; c++, out += width) {
        memset(out, 0, (size_t)width * sizeof(REAL));
        for (ptrdiff_t s = 0; s < samples; s++) {
            const int64_t last = indptr[rows[s] + 1];
            const REAL e = encoded[s * coded + c];
            for (int64_t i = indptr[rows[s]]; i < last; i++)
                out[columns[i]] += e * data[i];
        }
    }
}

/* out (count * block, units): x in column j * block + c adds g_j x delta_s to row c of a codeword's part. */
VECTORISED
void NAME(csr_coded)(const int64_t *indptr, const int32_t *columns, const REAL *data, const int64_t *rows,
                     ptrdiff_t samples, const REAL *delta, ptrdiff_t units, const REAL *codewords,
                     ptrdiff_t count, ptrdiff_t blocks, ptrdiff_t block, REAL *out)
{
    memset(out, 0, (size_t)(count * block * units) * sizeof(REAL));
    for (ptrdiff_t s = 0; s < samples; s++)
        for (int64_t i = indptr[rows[s]]; i < indptr[rows[s] + 1]; i++) {
            const ptrdiff_t j = columns[i] / block, c = columns[i] % block;
            for (ptrdiff_t row = 0; row < count; row++) {
                const REAL g = codewords[row * blocks + j];
                if (g != 0)
                    NAME(add)(out + (row * block + c) * units, g * data[i], delta + s * units, units);
            }
        }
}

#endif
