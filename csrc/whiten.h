/* whiten.h: elementwise work of a whitened gradient, on small matrices. */
#ifndef PDCODE_WHITEN_H
#define PDCODE_WHITEN_H

#include <stddef.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                        \
    void whiten_scale_##SUFFIX(const REAL *source, REAL factor, REAL *out, ptrdiff_t count);                \
    void whiten_polynomial_##SUFFIX(const REAL *power, const REAL *square, REAL a, REAL b, REAL c, REAL *out, \
                                    ptrdiff_t size);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
