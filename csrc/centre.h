/* centre.h: inputs of a layer less their running mean, and the bias of a gradient by such inputs. */
#ifndef PDCODE_CENTRE_H
#define PDCODE_CENTRE_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                          \
    void centre_##SUFFIX(const REAL *inputs, ptrdiff_t rows, ptrdiff_t width, REAL *mean, int64_t *count,     \
                         double least, REAL *centred, REAL *carried);                                         \
    void centre_columns_##SUFFIX(const REAL *mean, ptrdiff_t width, REAL *gradient, ptrdiff_t outputs);       \
    void centre_rows_##SUFFIX(const REAL *mean, ptrdiff_t width, REAL *gradient, ptrdiff_t outputs);          \
    void carry_columns_##SUFFIX(const REAL *mean, ptrdiff_t width, REAL *gradient, ptrdiff_t outputs);        \
    void carry_rows_##SUFFIX(const REAL *mean, ptrdiff_t width, REAL *gradient, ptrdiff_t outputs);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
