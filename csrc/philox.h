/* philox.h: keyed random numbers. */
#ifndef PDCODE_PHILOX_H
#define PDCODE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

void philox_integers(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, uint64_t bound,
                     int64_t *out, ptrdiff_t count);
void philox_uniforms(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, double *out,
                     ptrdiff_t count);
void philox_uniforms_of(uint64_t seed, uint64_t stream, const int64_t *workers, const int64_t *first,
                        ptrdiff_t length, ptrdiff_t count, ptrdiff_t words, double *out);

#endif
