/* matched.c: directions in the space of blocks, truncated to sparse codewords, and kept as a warm start.
 *
 * Design note. directions are (count, blocks), spare (count, blocks); indices and values are (rows, weight),
 * rows <= count. A codeword is the `weight` largest entries of the next direction, at unit norm. It is then
 * projected out of all directions, which have the form R z, as sending it projects it out of the residual R.
 * Finding the largest entries takes a microsecond or two per codeword (largest.h), little against two products
 * with the residual. Sums can thus be in double and in order.
 */
#ifndef REAL
#include "matched.h"
#define KERNEL "matched.c"
#include "real.h"
#else
#include "largest.h"

VECTORISED
void NAME(matched_select)(REAL *directions, ptrdiff_t count, ptrdiff_t blocks, int32_t *indices, REAL *values,
                          ptrdiff_t rows, ptrdiff_t weight)
{
    const ptrdiff_t size = weight < blocks ? weight : blocks;
    for (ptrdiff_t row = 0; row < rows; row++) {
        const REAL *direction = directions + row * blocks;
        int32_t *index = indices + row * weight;
        REAL *value = values + row * weight;
        double norm = 0;
        memset(index, 0, (size_t)weight * sizeof *index);
        memset(value, 0, (size_t)weight * sizeof *value);
        for (ptrdiff_t j = 0; j < blocks; j++)
            norm += (double)direction[j] * (double)direction[j];
        if (!(norm > 0 && norm - norm == 0)) { /* zero, NaN or infinite: no direction at all */
            value[0] = 1;
            continue;
        }
        const BITS least = NAME(bisect)(direction, blocks, size, size, 0);
        NAME(take)(direction, blocks, size, least, NULL, 0, index);
        norm = 0;
        for (ptrdiff_t t = 0; t < size; t++)
            norm += (double)direction[index[t]] * (double)direction[index[t]];
        norm = sqrt(norm);
        for (ptrdiff_t t = 0; t < size; t++)
            value[t] = (REAL)((double)direction[index[t]] / norm);
        for (ptrdiff_t other = 0; other < count; other++) {
            REAL *left = directions + other * blocks;
            double along = 0;
            for (ptrdiff_t t = 0; t < size; t++)
                along += (double)value[t] * (double)left[index[t]];
            for (ptrdiff_t t = 0; t < size; t++)
                left[index[t]] = (REAL)((double)left[index[t]] - along * (double)value[t]);
        }
    }
}

INLINE double NAME(inner)(const REAL *x, const REAL *y, ptrdiff_t blocks)
{
    double sum = 0;
    for (ptrdiff_t j = 0; j < blocks; j++)
        sum += (double)x[j] * (double)y[j];
    return sum;
}

/* Normalise x and project it off the directions before it; return the squared norm of the residual. */
INLINE double NAME(project)(REAL *x, const REAL *directions, ptrdiff_t before, ptrdiff_t blocks)
{
    const double factor = 1 / sqrt(NAME(inner)(x, x, blocks));
    for (ptrdiff_t j = 0; j < blocks; j++)
        x[j] = (REAL)(factor * (double)x[j]);
    for (ptrdiff_t other = 0; other < before; other++, directions += blocks) {
        const double along = NAME(inner)(x, directions, blocks);
        for (ptrdiff_t j = 0; j < blocks; j++)
            x[j] = (REAL)((double)x[j] - along * (double)directions[j]);
    }
    return NAME(inner)(x, x, blocks);
}

/* Gram-Schmidt, each direction twice (Giraud, Langou, Rozloznik, Computers & Mathematics with Applications
 * 2005). A direction that is zero, not finite, or with a residual below a thousandth is replaced by the spare
 * of its row. */
void NAME(matched_orthonormalise)(REAL *directions, const REAL *spare, ptrdiff_t count, ptrdiff_t blocks)
{
    for (ptrdiff_t row = 0; row < count; row++) {
        REAL *x = directions + row * blocks;
        const double left = NAME(project)(x, directions, row, blocks);
        if (!(left > 1e-6)) { /* NaN as well */
            memcpy(x, spare + row * blocks, (size_t)blocks * sizeof *x);
            NAME(project)(x, directions, row, blocks);
        }
        NAME(project)(x, directions, row, blocks);
        NAME(project)(x, directions, 0, blocks);
    }
}

#undef HIGHEST
#endif
