/* packing.c: f(X) = log(sum over i < j of exp(p <x_i, x_j>^2)) / p, its gradient, and L-BFGS on it.
 *
 * Design note. points is (k, n), with a point y_j of any norm > 0 per column, x_j = y_j / |y_j|; supports is
 * (n, weight): the distinct coordinates of x_j's support. With points in columns, the products of one point
 * with LANES others are elementwise: w multiply-adds per pair forward and 2 w backward, on data in cache;
 * bound by flops, and by exp for small w. The maximum that keeps exp in range is updated on the way, and the
 * running sums are rescaled when it rises. A group of pairs that all weigh less than exp(-CUT) is skipped:
 * nearly all groups for large p. Sums use a fixed number of lanes: the result is the same on every machine.
 *
 * f does not depend on the norms of the y_j, hence its gradient is tangent to the spheres, and L-BFGS (Nocedal,
 * Math. Comp. 1980) runs on the y_j as on any vector. Its weak Wolfe line search by bisection also handles
 * kinks (Lewis and Overton, Math. Program. 2013).
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "packing.h"
#include "vectors.h"

#define REAL double
#define BITS uint64_t
#define NAME(function) function##_f64
#include "exponential.h"

#define LANES 16   /* of the sums */
#define HISTORY 12 /* steps that L-BFGS remembers */
#define CUT 40.0   /* exp(-CUT) = 4e-18: negligible against 1 */
#define SEARCH 40  /* maximum number of step lengths per line search */

INLINE double across(double *lane)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int c = 0; c < half; c++)
            lane[c] += lane[c + half];
    return lane[0];
}

INLINE void scale(double *restrict out, double factor, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] *= factor;
}

/* x = y / |y| column by column, and 1 / |y|. */
INLINE void normalise(const double *restrict y, ptrdiff_t k, ptrdiff_t n, double *restrict x,
                      double *restrict inverse)
{
    memset(inverse, 0, (size_t)n * sizeof(double));
    for (ptrdiff_t l = 0; l < k; l++)
#pragma omp simd
        for (ptrdiff_t j = 0; j < n; j++)
            inverse[j] += y[l * n + j] * y[l * n + j];
#pragma omp simd
    for (ptrdiff_t j = 0; j < n; j++)
        inverse[j] = 1 / sqrt(inverse[j]);
    for (ptrdiff_t l = 0; l < k; l++)
#pragma omp simd
        for (ptrdiff_t j = 0; j < n; j++)
            x[l * n + j] = y[l * n + j] * inverse[j];
}

/* Running sum of exp(p (s - largest)), and the gradient's sums with the same scale. */
struct sum {
    double largest, total;
};

/* Products of x_i with the points from j on, LANES of them, and `valid` of these exist; the rest of the group is
 * whatever lies there, with weight 0. back (weight, LANES) gathers x_i's own gradient. */
INLINE void group(const double *restrict x, ptrdiff_t k, ptrdiff_t n, const int32_t *support,
                  ptrdiff_t weight, const double *restrict value, ptrdiff_t j, ptrdiff_t valid,
                  double sharpness, struct sum *sum, double *restrict gradient, double *restrict back)
{
    double product[LANES] = {0}, square[LANES], peak = 0;
    for (ptrdiff_t t = 0; t < weight; t++) {
        const double *restrict other = x + support[t] * n + j;
#pragma omp simd
        for (int c = 0; c < LANES; c++)
            product[c] += value[t] * other[c];
    }
#pragma omp simd
    for (int c = 0; c < LANES; c++)
        square[c] = c < valid ? product[c] * product[c] : 0;
#pragma omp simd reduction(max : peak)
    for (int c = 0; c < LANES; c++)
        peak = square[c] > peak ? square[c] : peak;
    if (sharpness * (peak - sum->largest) < -CUT)
        return;
    if (peak > sum->largest) {
        const double shrink = exp_negative_f64(sharpness * (sum->largest - peak));
        sum->largest = peak;
        sum->total *= shrink;
        scale(gradient, shrink, k * n);
        scale(back, shrink, weight * LANES);
    }
#pragma omp simd
    for (int c = 0; c < LANES; c++) {
        const double chance = exp_negative_f64(sharpness * (square[c] - sum->largest));
        square[c] = c < valid ? chance : 0;
    }
#pragma omp simd
    for (int c = 0; c < LANES; c++)
        product[c] = square[c] > 0 ? square[c] * product[c] : 0;
    for (ptrdiff_t t = 0; t < weight; t++) {
        const double *restrict other = x + support[t] * n + j;
        double *restrict theirs = gradient + support[t] * n + j, *restrict mine = back + t * LANES;
#pragma omp simd
        for (int c = 0; c < LANES; c++) {
            theirs[c] += product[c] * value[t];
            mine[c] += product[c] * other[c];
        }
    }
    sum->total += across(square);
}

/* Of one evaluation: x, the sums that the gradient has gathered, both with room for the last group, and 1 / |y|. */
INLINE ptrdiff_t evaluation(ptrdiff_t k, ptrdiff_t n)
{
    return 2 * (k * n + LANES) + n;
}

ptrdiff_t packing_work(ptrdiff_t k, ptrdiff_t n)
{
    return evaluation(k, n) + (4 + 2 * HISTORY) * k * n;
}

/* One value of f and its gradient with respect to the y_j, 0 outside the supports; both 0 for one point. */
INLINE double evaluate(const double *points, ptrdiff_t k, ptrdiff_t n, const int32_t *supports,
                       ptrdiff_t weight, double sharpness, double *gradient, double *work)
{
    const ptrdiff_t size = k * n;
    double *x = work, *gathered = x + size + LANES, *inverse = gathered + size + LANES;
    double value[PACKING_MOST], back[PACKING_MOST * LANES];
    struct sum sum = {0, 0};

    normalise(points, k, n, x, inverse);
    memset(x + size, 0, LANES * sizeof(double));
    memset(gathered, 0, (size_t)(size + LANES) * sizeof(double));
    for (ptrdiff_t i = 0; i < n; i++) {
        const int32_t *support = supports + i * weight;
        for (ptrdiff_t t = 0; t < weight; t++)
            value[t] = x[support[t] * n + i];
        memset(back, 0, (size_t)(weight * LANES) * sizeof(double));
        for (ptrdiff_t j = i + 1; j < n; j += LANES)
            group(x, k, n, support, weight, value, j, n - j < LANES ? n - j : LANES, sharpness, &sum,
                  gathered, back);
        for (ptrdiff_t t = 0; t < weight; t++)
            gathered[support[t] * n + i] += across(back + t * LANES);
    }
    memset(gradient, 0, (size_t)size * sizeof(double));
    if (n < 2)
        return 0;
    for (ptrdiff_t i = 0; i < n; i++) { /* project the gradient's sums onto support and tangent space */
        const int32_t *support = supports + i * weight;
        double radial = 0;
        for (ptrdiff_t t = 0; t < weight; t++)
            radial += gathered[support[t] * n + i] * x[support[t] * n + i];
        for (ptrdiff_t t = 0; t < weight; t++) {
            const ptrdiff_t at = support[t] * n + i;
            gradient[at] = 2 / sum.total * inverse[i] * (gathered[at] - radial * x[at]);
        }
    }
    return sum.largest + log(sum.total) / sharpness;
}

VECTORISED
double packing_smooth_maximum(const double *points, ptrdiff_t k, ptrdiff_t n, const int32_t *supports,
                              ptrdiff_t weight, double sharpness, double *gradient, double *work)
{
    return evaluate(points, k, n, supports, weight, sharpness, gradient, work);
}

/* direction = -H gradient, H from the last `pairs` steps and changes of the gradient up to `newest`. */
INLINE void turn(const double *gradient, double *restrict direction, const double *steps,
                 const double *changes, const double *curvature, int pairs, int newest, ptrdiff_t size)
{
    double factor[HISTORY];
    memcpy(direction, gradient, (size_t)size * sizeof(double));
    scale(direction, -1, size);
    for (int age = 0; age < pairs; age++) {
        const int at = (newest - age + HISTORY) % HISTORY;
        factor[at] = dot(steps + at * size, direction, size) / curvature[at];
        add(direction, -factor[at], changes + at * size, size);
    }
    if (pairs > 0) {
        const double *change = changes + newest * size;
        scale(direction, curvature[newest] / dot(change, change, size), size);
    }
    for (int age = pairs - 1; age >= 0; age--) {
        const int at = (newest - age + HISTORY) % HISTORY;
        const double back = dot(changes + at * size, direction, size) / curvature[at];
        add(direction, factor[at] - back, steps + at * size, size);
    }
}

/* Minimise f from points, in place, until a step gains less than tolerance or *iterations steps are done; set
 * *iterations to the number of steps, normalise the columns and return f. */
VECTORISED
double packing_minimise(double *points, ptrdiff_t k, ptrdiff_t n, const int32_t *supports, ptrdiff_t weight,
                        double sharpness, double tolerance, int64_t *iterations, double *work)
{
    const ptrdiff_t size = k * n, most = *iterations;
    double *gradient = work + evaluation(k, n), *trial = gradient + size, *slope = trial + size;
    double *direction = slope + size, *steps = direction + size, *changes = steps + HISTORY * size;
    double curvature[HISTORY], value;
    int pairs = 0, newest = -1;

    normalise(points, k, n, trial, work);
    memcpy(points, trial, (size_t)size * sizeof(double));
    value = evaluate(points, k, n, supports, weight, sharpness, gradient, work);
    *iterations = 0;
    while (*iterations < most) {
        turn(gradient, direction, steps, changes, curvature, pairs, newest, size);
        double descent = dot(gradient, direction, size);
        if (!(descent < 0)) {
            if (pairs == 0)
                break;
            pairs = 0; /* history spoilt by rounding: restart with the gradient */
            continue;
        }
        double low = 0, high = INFINITY, reached = value;
        double length = pairs > 0 ? 1 : 0.1 / sqrt(dot(gradient, gradient, size));
        int found = 0;
        for (int attempt = 0; attempt < SEARCH && !found; attempt++) {
            memcpy(trial, points, (size_t)size * sizeof(double));
            add(trial, length, direction, size);
            reached = evaluate(trial, k, n, supports, weight, sharpness, slope, work);
            if (!(reached <= value + 1e-4 * length * descent))
                high = length;
            else if (dot(slope, direction, size) < 0.9 * descent)
                low = length;
            else
                found = 1;
            if (!found)
                length = high < INFINITY ? 0.5 * (low + high) : 2 * low;
        }
        if (!found) { /* converged to rounding, unless the history is bad */
            if (pairs == 0)
                break;
            pairs = 0;
            continue;
        }
        ++*iterations;
        const double gain = value - reached;
        newest = (newest + 1) % HISTORY;
        double *step = steps + newest * size, *change = changes + newest * size;
        memcpy(step, direction, (size_t)size * sizeof(double));
        scale(step, length, size);
        memcpy(change, slope, (size_t)size * sizeof(double));
        add(change, -1, gradient, size);
        curvature[newest] = dot(step, change, size); /* > 0, by the Wolfe condition */
        pairs = pairs < HISTORY ? pairs + 1 : HISTORY;
        memcpy(points, trial, (size_t)size * sizeof(double));
        memcpy(gradient, slope, (size_t)size * sizeof(double));
        value = reached;
        if (gain < tolerance)
            break;
    }
    normalise(points, k, n, trial, work);
    memcpy(points, trial, (size_t)size * sizeof(double));
    return value;
}
