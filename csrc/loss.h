/* loss.h: mean loss of a batch and its derivative by the scores. */
#ifndef PDCODE_LOSS_H
#define PDCODE_LOSS_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                         \
    double softmax_loss_##SUFFIX(const REAL *scores, const int32_t *labels, REAL *delta, ptrdiff_t samples,  \
                                 ptrdiff_t classes, double scale);                                           \
    double logistic_loss_##SUFFIX(const REAL *scores, const int32_t *labels, REAL *delta, ptrdiff_t samples, \
                                  double scale);                                                             \
    double squared_loss_##SUFFIX(const REAL *scores, const REAL *targets, REAL *delta, ptrdiff_t samples,    \
                                 ptrdiff_t outputs, double scale);                                           \
    double poisson_loss_##SUFFIX(const REAL *scores, const REAL *targets, REAL *delta, ptrdiff_t samples,    \
                                 ptrdiff_t outputs, double scale);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
