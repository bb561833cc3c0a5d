/* quantise.h: formats of a payload on the wire. */
#ifndef PDCODE_QUANTISE_H
#define PDCODE_QUANTISE_H

#include <stddef.h>
#include <stdint.h>

enum pdcode_format {
    PDCODE_FLOAT64,
    PDCODE_FLOAT32,
    PDCODE_BFLOAT16,
    PDCODE_FLOAT16,
    PDCODE_INT8,
    PDCODE_INT4,
    PDCODE_INT2,
    PDCODE_SIGN,
    PDCODE_QSGD,
    PDCODE_FORMATS /* their number */
};
#define PDCODE_GROUP 1024 /* elements that share a scale */

ptrdiff_t quantise_size(int kind, ptrdiff_t rows, ptrdiff_t elements);

#define PDCODE_DECLARE(REAL, SUFFIX)                                                                        \
    int quantise_encode_##SUFFIX(int kind, const REAL *source, ptrdiff_t rows, ptrdiff_t elements,          \
                                 const uint64_t key[2], const uint64_t place[3], uint8_t *out,              \
                                 ptrdiff_t size, REAL *decoded);                                            \
    int quantise_decode_##SUFFIX(int kind, const uint8_t *in, ptrdiff_t rows, ptrdiff_t elements,           \
                                 REAL *out);

PDCODE_DECLARE(float, f32)
PDCODE_DECLARE(double, f64)
#undef PDCODE_DECLARE

#endif
