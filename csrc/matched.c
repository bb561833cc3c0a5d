/* matched.c: directions in the space of blocks, truncated to sparse codewords, and kept as a warm start.
 *
 * Design note. directions are (count, blocks), spare (count, blocks); indices and values are (rows, weight),
 * rows <= count. A codeword is the `weight` largest entries of the next direction, at unit norm. It is then
 * projected out of all directions, which have the form R z, as sending it projects it out of the residual R.
 * The largest entries are kept in a heap, the least at its root: O(blocks log weight), a few microseconds per
 * codeword, little against two products with the residual. Sums can thus be in double and in order.
 */
#ifndef REAL
#include "matched.h"
#define KERNEL "matched.c"
#include "real.h"
#else

/* Whether entry a ranks below b: smaller in magnitude, or as large with a larger index. */
INLINE int NAME(worse)(const REAL *direction, int32_t a, int32_t b)
{
    const double x = fabs((double)direction[a]), y = fabs((double)direction[b]);
    return x < y || (x == y && a > b);
}

/* Sift the index at `at` down in a heap of indices whose root ranks lowest. */
INLINE void NAME(sift_down)(const REAL *direction, int32_t *heap, ptrdiff_t size, ptrdiff_t at)
{
    const int32_t moved = heap[at];
    for (ptrdiff_t child = 2 * at + 1; child < size; at = child, child = 2 * at + 1) {
        if (child + 1 < size && NAME(worse)(direction, heap[child + 1], heap[child]))
            child++;
        if (!NAME(worse)(direction, heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* Indices of the `size` largest entries, ascending. */
INLINE void NAME(largest)(const REAL *direction, ptrdiff_t blocks, int32_t *out, ptrdiff_t size)
{
    for (ptrdiff_t t = 0; t < size; t++)
        out[t] = (int32_t)t;
    if (size == blocks)
        return;
    for (ptrdiff_t at = size / 2; at-- > 0;)
        NAME(sift_down)(direction, out, size, at);
    for (ptrdiff_t j = size; j < blocks; j++)
        if (NAME(worse)(direction, out[0], (int32_t)j)) {
            out[0] = (int32_t)j;
            NAME(sift_down)(direction, out, size, 0);
        }
    const int32_t least = out[0];
    for (int32_t j = 0, t = 0; t < size; j++)
        if (!NAME(worse)(direction, j, least))
            out[t++] = j;
}

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
        NAME(largest)(direction, blocks, index, size);
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

#endif
