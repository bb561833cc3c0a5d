/* finite.h: whether numbers are finite. */
#ifndef PDCODE_FINITE_H
#define PDCODE_FINITE_H

#include <stddef.h>
#include <stdint.h>

int all_finite_f32(const float *values, ptrdiff_t count);
int all_finite_f64(const double *values, ptrdiff_t count);

#endif
