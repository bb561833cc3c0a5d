/* factor.c: A = U T Q, updated by Gram-Schmidt where a row is new, by Givens rotations where it is not.
 *
 * Design note. Shapes are in factor.h; every loop runs along a contiguous row. A row a = d Q + c, c
 * orthogonal to Q (twice orthogonalised), either is new:       [A; a] = [U 0; 0 1] [T 0; d |c|] [Q; c / |c|],
 * and W gains the column c / |c|^2, the others lose their share; or is not:    rotations G with G [T; d] =
 * [T'; 0] give U' and W' too, as [U 0; 0 1] G' = [U' v] and [W 0] G' = [W' u]. Nothing is squared or
 * subtracted from a large inverse (as in Greville's recurrence), so the error stays near that of one
 * orthogonal factorisation. About 4 to 8 passes over (count + 2 length) * rank numbers in cache: bound by
 * flops.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "factor.h"
#include "simd.h"

INLINE double dot(const double *restrict a, const double *restrict b, ptrdiff_t count)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

INLINE void add(double *restrict out, double factor, const double *restrict source, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] += factor * source[i];
}

INLINE void rotate(double *restrict x, double *restrict y, double cosine, double sine, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const double old = x[i];
        x[i] = cosine * old + sine * y[i];
        y[i] = cosine * y[i] - sine * old;
    }
}

VECTORISED
int factorisation_add(struct factorisation *f, const double *a)
{
    const ptrdiff_t k = f->length, rank = f->rank, q = f->count++;
    double *c = f->work, *d = c + k, *s = d + k, *u = s + k, *v = u + k;

    memcpy(c, a, (size_t)k * sizeof(double));
    memset(d, 0, (size_t)k * sizeof(double));
    for (int pass = 0; pass < 2; pass++)
        for (ptrdiff_t i = 0; i < rank; i++) {
            const double part = dot(f->right + i * k, c, k);
            add(c, -part, f->right + i * k, k);
            d[i] += part;
        }
    const double size = sqrt(dot(a, a, k)), fresh = sqrt(dot(c, c, k));
    f->largest = size > f->largest ? size : f->largest;

    /* s T = d, so that a = s U' A + c: an error of one rounding in A is an error of |s| |A| roundings in c.
     */
    memcpy(s, d, (size_t)rank * sizeof(double));
    for (ptrdiff_t i = rank - 1; i >= 0; i--) {
        s[i] /= f->middle[i * k + i];
        add(s, -s[i], f->middle + i * k, i);
    }
    const double noise = 4 * DBL_EPSILON * (double)k * (size + sqrt(dot(s, s, rank)) * f->largest);
    for (ptrdiff_t i = 0; i < rank; i++)
        f->left[i * f->capacity + q] = 0;

    if (rank < k && fresh > noise) {
        double *basis = f->right + rank * k, *column = f->solver + rank * k,
               *left = f->left + rank * f->capacity;
        for (ptrdiff_t i = 0; i < k; i++) {
            basis[i] = c[i] / fresh;
            column[i] = basis[i] / fresh;
        }
        for (ptrdiff_t i = 0; i < rank; i++)
            add(f->solver + i * k, -s[i], column, k);
        memcpy(f->middle + rank * k, d, (size_t)rank * sizeof(double));
        f->middle[rank * k + rank] = fresh;
        memset(left, 0, (size_t)q * sizeof(double));
        left[q] = 1;
        f->rank++;
        return 1;
    }
    memset(u, 0, (size_t)k * sizeof(double));
    memset(v, 0, (size_t)q * sizeof(double));
    v[q] = 1;
    for (ptrdiff_t i = rank - 1; i >= 0; i--) {
        double *row = f->middle + i * k;
        const double length = sqrt(row[i] * row[i] + d[i] * d[i]), cosine = row[i] / length,
                     sine = d[i] / length;
        if (sine == 0)
            continue;
        rotate(row, d, cosine, sine, i + 1);
        rotate(f->solver + i * k, u, cosine, sine, k);
        rotate(f->left + i * f->capacity, v, cosine, sine, q + 1);
    }
    return 0;
}
