/* lca.h: steps that infer sparse codes, for features at the places of a grid. */
#ifndef PDCODE_LCA_H
#define PDCODE_LCA_H

#include <stddef.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                         \
    double leave_##SUFFIX(const REAL *targets, REAL *patches, REAL *image, ptrdiff_t samples,                \
                          ptrdiff_t height, ptrdiff_t width, ptrdiff_t rows, ptrdiff_t columns,              \
                          ptrdiff_t stride, double scale);                                                   \
    void compete_##SUFFIX(const REAL *drive, REAL *potential, REAL *codes, ptrdiff_t apart,                  \
                          ptrdiff_t samples, ptrdiff_t units, const REAL *thresholds, double speed,          \
                          int hard, int nonnegative);                                                        \
    void descend_##SUFFIX(const REAL *drive, REAL *points, REAL *codes, ptrdiff_t apart, ptrdiff_t samples,  \
                          ptrdiff_t units, const REAL *thresholds, double step, double momentum,             \
                          int nonnegative);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
