/* matched.h: sparse codewords from projections of a residual. */
#ifndef PDCODE_MATCHED_H
#define PDCODE_MATCHED_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                       \
    void matched_select_##SUFFIX(REAL *directions, ptrdiff_t count, ptrdiff_t blocks, int32_t *indices,    \
                                 REAL *values, ptrdiff_t rows, ptrdiff_t weight);                          \
    void matched_orthonormalise_##SUFFIX(REAL *directions, const REAL *spare, ptrdiff_t count,             \
                                         ptrdiff_t blocks);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
