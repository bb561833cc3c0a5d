/* replica.c: an arrival and its step for all units of a replica, in one call. */
#ifndef REAL
#include "fold.h"
#include "replica.h"

#define KERNEL "replica.c"
#include "real.h"
#else

/* theta_j -= rate * scale * g_j * y for each codeword of each unit, if that has the bits of other kernels:
 * payloads are usable, and no two sets of codewords share a block. Returns whether it is so. */
int NAME(replica_descend)(const struct replica_step *steps, ptrdiff_t count, double rate)
{
    for (const struct replica_step *s = steps; s < steps + count; s++)
        if (!fold_apart(s->indices, s->rows, s->weight, s->blocks, s->seen)
            || !NAME(fold_usable)(s->rows, s->block, s->kind, s->wire))
            return 0;
    for (const struct replica_step *s = steps; s < steps + count; s++)
        NAME(fold_decode)(s->theta, s->length, s->indices, s->values, s->rows, s->weight, s->block, s->kind,
                          s->wire, (REAL)(rate * s->scale));
    return 1;
}
#endif
