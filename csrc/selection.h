/* selection.h: largest elements of a vector. */
#ifndef PDCODE_SELECTION_H
#define PDCODE_SELECTION_H

#include <stddef.h>
#include <stdint.h>

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                        \
    void selection_largest_##SUFFIX(const REAL *vector, ptrdiff_t length, ptrdiff_t chunk, ptrdiff_t most,  \
                                    int32_t *out, REAL *values, int32_t *places, ptrdiff_t room);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
