/* proximal.c: proximal operators of penalties on single weights, and the change that a step has made.
 *
 * Design note. One operator stands for l1, the elastic net and a box: bound by bandwidth, with limits that do
 * nothing it costs no more. weights is (rows, columns), with stride elements from row to row, for biases are
 * left out.
 */
#ifndef REAL
#include "proximal.h"
#define KERNEL "proximal.c"
#include "real.h"
#else

#define TILE 1024

/* w = factor * sign(w) * max(|w| - threshold, 0), at least low and at most high; NaN stays NaN. */
VECTORISED
void NAME(shrink)(REAL *weights, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride, ptrdiff_t across,
                  REAL threshold, REAL factor, REAL low, REAL high)
{
    if (across != 1) { /* the elements of a column are side by side */
        const ptrdiff_t swap = rows;
        rows = columns;
        columns = swap;
        stride = across;
    }
    for (ptrdiff_t row = 0; row < rows; row++) {
        REAL *restrict w = weights + row * stride;
#pragma omp simd
        for (ptrdiff_t i = 0; i < columns; i++) {
            const REAL part = w[i] > threshold ? threshold : w[i] < -threshold ? -threshold : w[i];
            const REAL left = factor * (w[i] - part);
            w[i] = left < low ? low : left > high ? high : left;
        }
    }
}

/* before = theta - before; returns its squared norm, summed as in optimize.c. */
VECTORISED
double NAME(displace)(REAL *restrict before, const REAL *restrict theta, ptrdiff_t length)
{
    double total = 0;
    for (ptrdiff_t start = 0; start < length; start += TILE) {
        const ptrdiff_t end = length - start < TILE ? length : start + TILE;
        REAL sum = 0;
#pragma omp simd reduction(+ : sum)
        for (ptrdiff_t i = start; i < end; i++) {
            const REAL change = theta[i] - before[i];
            before[i] = change;
            sum += change * change;
        }
        total += (double)sum;
    }
    return total;
}

#undef TILE
#endif
