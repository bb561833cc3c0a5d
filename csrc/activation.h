/* activation.h: elementwise activations of a layer and their backward step. */
#ifndef PDCODE_ACTIVATION_H
#define PDCODE_ACTIVATION_H

#include <stddef.h>

enum pdcode_activation { PDCODE_RELU, PDCODE_TANH, PDCODE_GELU };

#define PDCODE_DECLARE(REAL, SUFFIX)                                                              \
    void activation_forward_##SUFFIX(int kind, const REAL *z, ptrdiff_t z_stride, REAL *out,      \
                                     ptrdiff_t out_stride, ptrdiff_t samples, ptrdiff_t units);   \
    void activation_backward_##SUFFIX(int kind, const REAL *z, ptrdiff_t z_stride, const REAL *a, \
                                      ptrdiff_t a_stride, REAL *delta, ptrdiff_t delta_stride,    \
                                      ptrdiff_t samples, ptrdiff_t units);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
