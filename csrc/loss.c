/* loss.c: softmax, logistic, squared and Poisson loss, each with its delta, scale / samples times the derivative.
 *
 * Design note. scores and delta are (samples, classes), without gaps; delta may be scores. labels (samples).
 * The exponential bounds softmax: it runs over a chunk of whole rows at once, because a row of ten classes
 * would leave vector lanes idle. Losses are summed in double.
 */
#ifndef REAL
#include "loss.h"
#define KERNEL "loss.c"
#include "real.h"
#else
#include "exponential.h"

#define CHUNK 2048 /* elements */
#define LANES 16
#define HIGHEST 80 /* exp(80) = 5.5e34, with room below the largest float */

INLINE REAL NAME(maximum)(const REAL *z, ptrdiff_t count)
{
    REAL largest = z[0], lanes[LANES];
    ptrdiff_t i = 1;
    if (count >= LANES) {
        memcpy(lanes, z, sizeof lanes);
        for (i = LANES; i + LANES <= count; i += LANES)
#pragma omp simd
            for (int l = 0; l < LANES; l++)
                lanes[l] = z[i + l] > lanes[l] ? z[i + l] : lanes[l];
        for (int l = 0; l < LANES; l++)
            largest = lanes[l] > largest ? lanes[l] : largest;
    }
    for (; i < count; i++)
        largest = z[i] > largest ? z[i] : largest;
    return largest;
}

VECTORISED
double NAME(softmax_loss)(const REAL *scores, const int32_t *labels, REAL *delta, ptrdiff_t samples,
                          ptrdiff_t classes, double scale)
{
    const ptrdiff_t most = classes < CHUNK ? CHUNK / classes : 1;
    const REAL unit = (REAL)(scale / (double)samples);
    double loss = 0;
    for (ptrdiff_t first = 0; first < samples; first += most) {
        const ptrdiff_t rows = samples - first < most ? samples - first : most;
        for (ptrdiff_t s = first; s < first + rows; s++) {
            const REAL *z = scores + s * classes;
            REAL *d = delta + s * classes;
            const REAL largest = NAME(maximum)(z, classes);
            for (ptrdiff_t c = 0; c < classes; c++)
                d[c] = z[c] - largest;
            loss -= (double)d[labels[s]];
        }
        REAL *chunk = delta + first * classes;
#pragma omp simd
        for (ptrdiff_t i = 0; i < rows * classes; i++)
            chunk[i] = NAME(exp_negative)(chunk[i]);
        for (ptrdiff_t s = first; s < first + rows; s++) {
            REAL *d = delta + s * classes, sum = 0;
#pragma omp simd reduction(+ : sum)
            for (ptrdiff_t c = 0; c < classes; c++)
                sum += d[c];
            loss += log((double)sum);
            const REAL share = unit / sum;
            for (ptrdiff_t c = 0; c < classes; c++)
                d[c] *= share;
            d[labels[s]] -= unit;
        }
    }
    return loss / (double)samples;
}

/* log(1 + exp(z)) - label * z = max(z, 0) - label * z + log(1 + exp(-|z|)). */
VECTORISED
double NAME(logistic_loss)(const REAL *scores, const int32_t *labels, REAL *delta, ptrdiff_t samples,
                           double scale)
{
    const REAL unit = (REAL)(scale / (double)samples);
    double loss = 0;
    for (ptrdiff_t s = 0; s < samples; s++) {
        const double z = (double)scores[s];
        loss += (z > 0 ? z : 0) - (labels[s] ? z : 0) + log1p(exp(-fabs(z)));
    }
#pragma omp simd
    for (ptrdiff_t s = 0; s < samples; s++) {
        const REAL z = scores[s], e = NAME(exp_negative)(z < 0 ? z : -z);
        delta[s] = unit * ((z < 0 ? e : 1) / (1 + e) - (labels[s] ? (REAL)1 : (REAL)0));
    }
    return loss / (double)samples;
}

/* Half the mean over samples of the squared norm of scores - targets. */
VECTORISED
double NAME(squared_loss)(const REAL *scores, const REAL *targets, REAL *delta, ptrdiff_t samples,
                          ptrdiff_t outputs, double scale)
{
    const REAL unit = (REAL)(scale / (double)samples);
    double loss = 0;
#pragma omp simd reduction(+ : loss)
    for (ptrdiff_t i = 0; i < samples * outputs; i++) {
        const REAL error = scores[i] - targets[i];
        loss += (double)error * (double)error;
        delta[i] = unit * error;
    }
    return 0.5 * loss / (double)samples;
}

/* Half the mean over samples of the Poisson deviance of targets t >= 0 from rates exp(z): the sum over outputs
 * of exp(z) - t z + t log(t) - t. From z = HIGHEST on exp(z) continues as its tangent, so that neither it nor
 * its slope, at which it stays, overflows.
 */
VECTORISED
double NAME(poisson_loss)(const REAL *scores, const REAL *targets, REAL *delta, ptrdiff_t samples,
                          ptrdiff_t outputs, double scale)
{
    const REAL unit = (REAL)(scale / (double)samples);
    double loss = 0;
    for (ptrdiff_t i = 0; i < samples * outputs; i++) {
        const double z = (double)scores[i], t = (double)targets[i], over = z > HIGHEST ? z - HIGHEST : 0;
        loss += exp(z - over) * (1 + over) - t * z + (t > 0 ? t * (log(t) - 1) : 0);
    }
#pragma omp simd
    for (ptrdiff_t i = 0; i < samples * outputs; i++) {
        const REAL z = scores[i] > HIGHEST ? HIGHEST : scores[i];
        const REAL e = NAME(exp_negative)(z < 0 ? z : -z);
        delta[i] = unit * ((z < 0 ? e : 1 / e) - targets[i]);
    }
    return loss / (double)samples;
}

#undef CHUNK
#undef HIGHEST
#undef LANES
#endif
