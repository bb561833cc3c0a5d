/* factor.c: A = U T Q, updated by Gram-Schmidt where a row is new, by Givens rotations where it is not.
 *
 * Design note. Shapes are in factor.h; every loop runs along a contiguous row. A row a = d Q + c, c
 * orthogonal to Q (twice orthogonalised), either is new:       [A; a] = [U 0; 0 1] [T 0; d |c|] [Q; c / |c|],
 * and W gains the column c / |c|^2, the others lose their share; or is not:    rotations G with G [T; d] =
 * [T'; 0] give U' and W' too, as [U 0; 0 1] G' = [U' v] and [W 0] G' = [W' u]. Nothing is squared or
 * subtracted from a large inverse (as in Greville's recurrence), so the error stays near the error of one
 * orthogonal factorisation. About 4 to 8 passes over (count + 2 length) * rank numbers in cache: bound by
 * flops. Sums use eight lanes on every processor, hence are bit-identical.
 *
 * With a prior the factorisation starts with `length` rows prior * I: W U' is then (A'A + prior^2 I)^-1 A'.
 * The columns of U for these rows are not needed and not kept.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "factor.h"
#include "vectors.h"

INLINE void rotate(double *restrict x, double *restrict y, double cosine, double sine, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++) {
        const double old = x[i];
        x[i] = cosine * old + sine * y[i];
        y[i] = cosine * y[i] - sine * old;
    }
}

void factorisation_begin(struct factorisation *f, double prior)
{
    const ptrdiff_t k = f->length;
    f->count = 0;
    f->rank = prior > 0 ? k : 0;
    f->largest = prior;
    memset(f->errors, 0, (size_t)k * sizeof(double));
    if (prior > 0) {
        memset(f->middle, 0, (size_t)(k * k) * sizeof(double));
        memset(f->right, 0, (size_t)(k * k) * sizeof(double));
        memset(f->solver, 0, (size_t)(k * k) * sizeof(double));
        for (ptrdiff_t i = 0; i < k * k; i += k + 1) {
            f->middle[i] = prior;
            f->right[i] = 1;
            f->solver[i] = 1 / prior;
        }
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
    double noise = 0;
    f->largest = size > f->largest ? size : f->largest;

    /* s T = d, so that a = s U' A + c: an error of one rounding in A is an error of |s| |A| roundings in c. A row
     * of Q that came from a short c has a large error, which remains when other rows make T well-conditioned. */
    if (rank < k) {
        memcpy(s, d, (size_t)rank * sizeof(double));
        for (ptrdiff_t i = rank - 1; i >= 0; i--) {
            s[i] /= f->middle[i * k + i];
            add(s, -s[i], f->middle + i * k, i);
        }
        noise = 4 * DBL_EPSILON * (double)k * (size + sqrt(dot(s, s, rank)) * f->largest);
        for (ptrdiff_t i = 0; i < rank; i++)
            noise += fabs(d[i]) * f->errors[i];
    }
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
        f->errors[rank] = noise / fresh;
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

/* out += the four factors times four rows of source, in this order. */
INLINE void add_four(double *restrict out, const double *factors, ptrdiff_t gap, const double *restrict source,
                     ptrdiff_t count)
{
    const double a = factors[0], b = factors[gap], c = factors[2 * gap], d = factors[3 * gap];
    const double *second = source + count, *third = second + count, *fourth = third + count;
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = (((out[i] + a * source[i]) + b * second[i]) + c * third[i]) + d * fourth[i];
}

VECTORISED
void factorisation_inverse(const struct factorisation *f, double *inverse)
{
    const ptrdiff_t k = f->length, gap = f->capacity;
    memset(inverse, 0, (size_t)(f->count * k) * sizeof(double));
    for (ptrdiff_t q = 0; q < f->count; q++) {
        ptrdiff_t i = 0;
        for (; i + 4 <= f->rank; i += 4)
            add_four(inverse + q * k, f->left + i * gap + q, gap, f->solver + i * k, k);
        for (; i < f->rank; i++)
            add(inverse + q * k, f->left[i * gap + q], f->solver + i * k, k);
    }
}
