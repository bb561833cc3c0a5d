/* field.h: arithmetic modulo a prime. */
#ifndef PDCODE_FIELD_H
#define PDCODE_FIELD_H

#include <stddef.h>
#include <stdint.h>

void field_product(const uint64_t *a, const uint64_t *b, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t columns, uint64_t p,
                   uint64_t *out);
void field_product_transposed(const uint64_t *a, const uint64_t *b, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t columns,
                              uint64_t p, uint64_t *out);
void field_multiply(const uint64_t *a, const uint64_t *b, ptrdiff_t length, uint64_t p, uint64_t *out);
void field_basis(const uint64_t *points, ptrdiff_t count, const uint64_t *targets, ptrdiff_t rows, uint64_t p,
                 uint64_t *weights, uint64_t *out);
ptrdiff_t field_errors(const uint64_t *points, const uint64_t *word, ptrdiff_t count, ptrdiff_t dimension, uint64_t p,
                       uint64_t *room, int64_t *wrong);

#endif
