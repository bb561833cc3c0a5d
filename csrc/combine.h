/* combine.h: linear combinations of payloads at arbitrary addresses. */
#ifndef PDCODE_COMBINE_H
#define PDCODE_COMBINE_H

#include <stddef.h>
#include <stdint.h>

/* Write the addresses of a payload's rows. out_j (count elements, rows of it `stride` apart) = sum over i of matrix[i][j] * elements start ... of the
 * payload at addresses[i]; matrix is (payloads, rows). */
#define PDCODE_DECLARE(REAL, SUFFIX)                                                                 \
    void locate_##SUFFIX(const REAL *payload, ptrdiff_t rows, ptrdiff_t elements, uint64_t *addresses,   \
                         ptrdiff_t position);                                                        \
    void combine_##SUFFIX(const uint64_t *addresses, ptrdiff_t payloads, ptrdiff_t start,            \
                          ptrdiff_t count, const REAL *matrix, ptrdiff_t rows, REAL *out, ptrdiff_t stride);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
