/* proximal.h: proximal operators of penalties on single weights, and the change that a step has made. */
#ifndef PDCODE_PROXIMAL_H
#define PDCODE_PROXIMAL_H

#include <stddef.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                         \
    void shrink_##SUFFIX(REAL *weights, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride,                 \
                         ptrdiff_t across, REAL threshold, REAL factor, REAL low, REAL high);                \
    double displace_##SUFFIX(REAL *before, const REAL *theta, ptrdiff_t length);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
