/* order.h: order statistics of vectors, element by element. */
#ifndef PDCODE_ORDER_H
#define PDCODE_ORDER_H

#include <stddef.h>
#include <stdint.h>

#define ORDER_TILE 256 /* elements that are sorted at a time: room for as many of each vector */

void middle_mean_f32(const uint64_t *addresses, ptrdiff_t vectors, ptrdiff_t length, ptrdiff_t low, ptrdiff_t high,
                     void *room, float *out);
void middle_mean_f64(const uint64_t *addresses, ptrdiff_t vectors, ptrdiff_t length, ptrdiff_t low, ptrdiff_t high,
                     void *room, double *out);

#endif
