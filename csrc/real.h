/* real.h: each kernel is written once and compiled for float and for double.
 *
 * A kernel file reads
 *
 *     #ifndef REAL
 *     #include "name.h"
 *     #define KERNEL "name.c"
 *     #include "real.h"
 *     #else
 *     ... functions; REAL is the type, BITS the unsigned integer of its size, NAME(f) is f_f32 or f_f64 ...
 *     #endif
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd.h"

#define REAL float
#define BITS uint32_t
#define NAME(function) function##_f32
#include KERNEL
#undef REAL
#undef BITS
#undef NAME

#define REAL double
#define BITS uint64_t
#define NAME(function) function##_f64
#include KERNEL
#undef REAL
#undef BITS
#undef NAME
