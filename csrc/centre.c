/* centre.c: inputs (rows, width + 1), the last column ones, less a mean that follows them.
 *
 * Design note. With centred inputs A_c = (a - m, 1) the gradient of the weights W and of b + W m, the bias
 * beside them, is D'A_c; a step along it changes the bias itself by its last column less the others times m.
 * So D'A_t with A_t = (a - m, 1 - m.(a - m)) is that step at once. Both matrices are written in one pass.
 * Of a gradient D'(a, 1) that is formed, D'A_c is the other columns less the last one times m.
 */
#ifndef REAL
#include "centre.h"
#define KERNEL "centre.c"
#include "real.h"
#else

VECTORISED
void NAME(centre)(const REAL *inputs, ptrdiff_t rows, ptrdiff_t width, REAL *mean, int64_t *count, double least,
                  REAL *centred, REAL *carried)
{
    const ptrdiff_t stride = width + 1;
    const double equal = 1 / (double)++count[0];
    const REAL share = (REAL)(equal > least ? equal : least);
    REAL *sum = centred; /* until the first row is written */
    memcpy(sum, inputs, (size_t)width * sizeof(REAL));
    for (ptrdiff_t r = 1; r < rows; r++) {
        const REAL *row = inputs + r * stride;
#pragma omp simd
        for (ptrdiff_t i = 0; i < width; i++)
            sum[i] += row[i];
    }
    const REAL each = 1 / (REAL)rows;
#pragma omp simd
    for (ptrdiff_t i = 0; i < width; i++)
        mean[i] += share * (sum[i] * each - mean[i]);
    for (ptrdiff_t r = 0; r < rows; r++) {
        const REAL *row = inputs + r * stride;
        REAL *first = centred + r * stride, *second = carried + r * stride, dot = 0;
#pragma omp simd reduction(+ : dot)
        for (ptrdiff_t i = 0; i < width; i++) {
            const REAL value = row[i] - mean[i];
            first[i] = second[i] = value;
            dot += value * mean[i];
        }
        first[width] = 1;
        second[width] = 1 - dot;
    }
}

/* Gradients (outputs, width + 1): the bias is the last element of each row. */
VECTORISED
void NAME(centre_columns)(const REAL *mean, ptrdiff_t width, REAL *gradient, ptrdiff_t outputs)
{
    for (ptrdiff_t k = 0; k < outputs; k++) {
        REAL *row = gradient + k * (width + 1), bias = row[width];
#pragma omp simd
        for (ptrdiff_t i = 0; i < width; i++)
            row[i] -= bias * mean[i];
    }
}

VECTORISED
void NAME(carry_columns)(const REAL *mean, ptrdiff_t width, REAL *gradient, ptrdiff_t outputs)
{
    for (ptrdiff_t k = 0; k < outputs; k++) {
        REAL *row = gradient + k * (width + 1), dot = 0;
#pragma omp simd reduction(+ : dot)
        for (ptrdiff_t i = 0; i < width; i++)
            dot += row[i] * mean[i];
        row[width] -= dot;
    }
}

/* Gradients (width + 1, outputs): the bias is the last row. */
VECTORISED
void NAME(centre_rows)(const REAL *mean, ptrdiff_t width, REAL *gradient, ptrdiff_t outputs)
{
    const REAL *bias = gradient + width * outputs;
    for (ptrdiff_t i = 0; i < width; i++) {
        REAL *row = gradient + i * outputs, factor = mean[i];
#pragma omp simd
        for (ptrdiff_t k = 0; k < outputs; k++)
            row[k] -= factor * bias[k];
    }
}

VECTORISED
void NAME(carry_rows)(const REAL *mean, ptrdiff_t width, REAL *gradient, ptrdiff_t outputs)
{
    REAL *bias = gradient + width * outputs;
    for (ptrdiff_t i = 0; i < width; i++) {
        const REAL *row = gradient + i * outputs, factor = mean[i];
#pragma omp simd
        for (ptrdiff_t k = 0; k < outputs; k++)
            bias[k] -= factor * row[k];
    }
}
#endif
