/* finite.h: whether numbers are finite, and usable in a payload. */
#ifndef PDCODE_FINITE_H
#define PDCODE_FINITE_H

#include <stddef.h>
#include <stdint.h>

/* Largest magnitude of an element of a payload: its square, and the sum of many of them, is in the range of double
 * precision, and its square in the range of its own. */
#define LARGEST_ELEMENT(bytes) ((bytes) == 4 ? 0x1p60 : 0x1p480)

int all_finite_f32(const float *values, ptrdiff_t count);
int all_finite_f64(const double *values, ptrdiff_t count);
int all_usable_f32(const float *values, ptrdiff_t count);
int all_usable_f64(const double *values, ptrdiff_t count);

#endif
