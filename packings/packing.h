/* packing.h: the smooth maximum of squared inner products of unit vectors, and its minimisation. */
#ifndef PDCODE_PACKING_H
#define PDCODE_PACKING_H

#include <stddef.h>
#include <stdint.h>

enum { PACKING_MOST = 64 }; /* largest weight */

/* Doubles of work that n points of R^k need. */
ptrdiff_t packing_work(ptrdiff_t k, ptrdiff_t n);

double packing_smooth_maximum(const double *points, ptrdiff_t k, ptrdiff_t n, const int32_t *supports,
                              ptrdiff_t weight, double sharpness, double *gradient, double *work);
double packing_minimise(double *points, ptrdiff_t k, ptrdiff_t n, const int32_t *supports, ptrdiff_t weight,
                        double sharpness, double tolerance, int64_t *iterations, double *work);

#endif
