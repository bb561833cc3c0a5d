/* optimize.c: theta -= step, in the pass that reads the decoded gradient and, on request, clears it.
 *
 * Design note. All arrays are (length); the true gradient is scale * gradient. Bound by bandwidth: each array
 * is read and written once. The squared norm of the step is summed in the array's type over a tile, in double
 * over tiles.
 */
#ifndef REAL
#include "optimize.h"
#define KERNEL "optimize.c"
#include "real.h"
#else
#include "blocks.h"

#define TILE 1024

/* theta -= factor * gradient on at most a tile; returns the squared norm of the step. */
INLINE double NAME(descend)(REAL *restrict theta, REAL *restrict gradient, ptrdiff_t count, REAL factor,
                            int clear)
{
    REAL sum = 0;
    if (clear) {
#pragma omp simd reduction(+ : sum)
        for (ptrdiff_t i = 0; i < count; i++) {
            const REAL step = factor * gradient[i];
            theta[i] -= step;
            gradient[i] = 0;
            sum += step * step;
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (ptrdiff_t i = 0; i < count; i++) {
            const REAL step = factor * gradient[i];
            theta[i] -= step;
            sum += step * step;
        }
    }
    return (double)sum;
}

/* g = scale * gradient; velocity = decay * velocity + gain * g; theta -= rate * (own * g + keep * velocity).
 * Empty velocity: theta -= rate * g. */
VECTORISED
double NAME(sgd_step)(REAL *theta, REAL *velocity, ptrdiff_t moving, REAL *gradient, ptrdiff_t length, REAL scale,
                      REAL rate, REAL decay, REAL gain, REAL own, REAL keep, int clear)
{
    double total = 0;
    for (ptrdiff_t start = 0; start < length; start += TILE) {
        const ptrdiff_t count = length - start < TILE ? length - start : TILE;
        REAL *restrict x = theta + start, *restrict g = gradient + start, sum = 0;
        if (moving == 0) {
            total += NAME(descend)(x, g, count, scale * rate, clear);
            continue;
        }
        REAL *restrict v = velocity + start;
#pragma omp simd reduction(+ : sum)
        for (ptrdiff_t i = 0; i < count; i++) {
            const REAL d = scale * g[i];
            v[i] = decay * v[i] + gain * d;
            const REAL step = rate * (own * d + keep * v[i]);
            x[i] -= step;
            sum += step * step;
        }
        if (clear)
            memset(g, 0, (size_t)count * sizeof(REAL));
        total += (double)sum;
    }
    return total;
}

/* Step t of Adam (Kingma and Ba 2015). */
VECTORISED
double NAME(adam_step)(REAL *theta, REAL *first, REAL *second, REAL *gradient, ptrdiff_t length, REAL scale,
                       double rate, double decay1, double decay2, REAL epsilon, long t, int clear)
{
    const REAL beta1 = (REAL)decay1, beta2 = (REAL)decay2;
    const REAL size = (REAL)(rate / (1 - pow(decay1, (double)t)));
    const REAL root = (REAL)(1 / sqrt(1 - pow(decay2, (double)t)));
    double total = 0;
    for (ptrdiff_t start = 0; start < length; start += TILE) {
        const ptrdiff_t count = length - start < TILE ? length - start : TILE;
        REAL *restrict x = theta + start, *restrict g = gradient + start;
        REAL *restrict m = first + start, *restrict v = second + start, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (ptrdiff_t i = 0; i < count; i++) {
            const REAL d = scale * g[i];
            m[i] = beta1 * m[i] + (1 - beta1) * d;
            v[i] = beta2 * v[i] + (1 - beta2) * d * d;
            const REAL deviation = sizeof(REAL) == 4 ? (REAL)sqrtf((float)v[i]) : (REAL)sqrt((double)v[i]);
            const REAL step = size * m[i] / (root * deviation + epsilon);
            x[i] -= step;
            sum += step * step;
        }
        if (clear)
            memset(g, 0, (size_t)count * sizeof(REAL));
        total += (double)sum;
    }
    return total;
}

/* With theta = base + inner * (mean - base), which tells the base:
   base -= rate * gradient; mean += share * (base - mean). */
VECTORISED
double NAME(schedule_free_step)(REAL *theta, REAL *mean, const REAL *gradient, ptrdiff_t length, REAL rate,
                                REAL share, REAL inner)
{
    const REAL farther = 1 / (1 - inner);
    double total = 0;
    for (ptrdiff_t start = 0; start < length; start += TILE) {
        const ptrdiff_t count = length - start < TILE ? length - start : TILE;
        const REAL *restrict g = gradient + start;
        REAL *restrict y = theta + start, *restrict x = mean + start, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (ptrdiff_t i = 0; i < count; i++) {
            const REAL z = x[i] + farther * (y[i] - x[i]) - rate * g[i];
            x[i] += share * (z - x[i]);
            const REAL step = z + inner * (x[i] - z) - y[i];
            y[i] += step;
            sum += step * step;
        }
        total += (double)sum;
    }
    return total;
}

/* theta_j -= factor * accumulator_j, accumulator_j = 0, for the blocks j that arrivals have touched. */
VECTORISED
double NAME(sgd_blocks)(REAL *theta, REAL *accumulator, ptrdiff_t length, const int32_t *blocks,
                        ptrdiff_t count, ptrdiff_t block, REAL factor)
{
    double total = 0;
    for (ptrdiff_t i = 0; i < count; i++)
        for (ptrdiff_t start = 0; start < block; start += TILE) {
            const ptrdiff_t count = block - start < TILE ? block - start : TILE;
            const ptrdiff_t valid = NAME(span)(length, block, blocks[i], start, count);
            const ptrdiff_t at = (ptrdiff_t)blocks[i] * block + start;
            if (valid > 0)
                total += NAME(descend)(theta + at, accumulator + at, valid, factor, 1);
        }
    return total;
}

/* mean += share * (theta - mean), which leaves a mean that equals theta as it is. */
VECTORISED
void NAME(average)(REAL *restrict mean, const REAL *restrict theta, ptrdiff_t length, REAL share)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < length; i++)
        mean[i] += share * (theta[i] - mean[i]);
}

/* point = theta - share * residual. */
VECTORISED
void NAME(look_ahead)(REAL *restrict point, const REAL *restrict theta, const REAL *restrict residual,
                      ptrdiff_t length, REAL share)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < length; i++)
        point[i] = theta[i] - share * residual[i];
}

#undef TILE
#endif
