/* intake.c: what rank 0 and replicas do with a payload, for all its units in one call.
 *
 * Design note. Small payloads cost less than the calls that take them in, so the loops over units are here;
 * the work on a unit is that of quantise.c, finite.c, decode.c and fold.c.
 */
#ifndef REAL
#include "decode.h"
#include "finite.h"
#include "fold.h"
#include "intake.h"
#include "quantise.h"

#define KERNEL "intake.c"
#include "real.h"

/* Indices travel in the smallest unsigned type that holds them, of `size` 1, 2 or 4 bytes. */
void intake_widen(const uint8_t *narrow, ptrdiff_t size, ptrdiff_t count, int32_t *wide)
{
    for (ptrdiff_t i = 0; i < count; i++)
        wide[i] = size == 1   ? narrow[i]
                  : size == 2 ? ((const uint16_t *)narrow)[i]
                              : (int32_t)((const uint32_t *)narrow)[i];
}

void intake_narrow(const int32_t *wide, ptrdiff_t count, ptrdiff_t size, uint8_t *narrow)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        if (size == 1)
            narrow[i] = (uint8_t)wide[i];
        else if (size == 2)
            ((uint16_t *)narrow)[i] = (uint16_t)wide[i];
        else
            ((uint32_t *)narrow)[i] = (uint32_t)wide[i];
    }
}

/* Read codewords that travel as values and indices. */
void intake_given(const struct intake_words *words, ptrdiff_t count)
{
    for (const struct intake_words *w = words; w < words + count; w++) {
        memcpy(w->values, w->sent, (size_t)w->bytes);
        intake_widen(w->places, w->size, w->count, w->indices);
    }
}
#else

/* Decode all fields; returns whether all elements are finite. */
int NAME(intake_read)(const struct intake_field *fields, ptrdiff_t count)
{
    int finite = 1;
    for (ptrdiff_t i = 0; i < count; i++) {
        const struct intake_field *f = fields + i;
        finite &= f->kind < 0 ? NAME(all_finite)(f->flat, f->rows * f->elements)
                              : NAME(quantise_decode)(f->kind, f->wire, f->rows, f->elements, f->flat);
    }
    return finite;
}

/* accumulator_j += g_j * y for each codeword of each unit. */
void NAME(intake_fold)(const struct intake_fold *folds, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        const struct intake_fold *f = folds + i;
        NAME(adjoint_decode)(f->accumulator, f->length, f->indices, f->values, f->rows, f->weight, f->payload,
                             f->block, 1);
    }
}

/* theta_j -= rate * scale * g_j * y for each codeword of each unit, if that has the bits of other kernels:
 * payloads are finite, and no two sets of codewords share a block. Returns whether it is so. */
int NAME(intake_descend)(const struct intake_descent *descents, ptrdiff_t count, double rate)
{
    for (const struct intake_descent *d = descents; d < descents + count; d++)
        if (!fold_apart(d->indices, d->rows, d->weight, d->blocks, d->seen)
            || !NAME(fold_finite)(d->rows, d->block, d->kind, d->wire))
            return 0;
    for (const struct intake_descent *d = descents; d < descents + count; d++)
        NAME(fold_decode)(d->theta, d->length, d->indices, d->values, d->rows, d->weight, d->block, d->kind,
                          d->wire, (REAL)(rate * d->scale));
    return 1;
}
#endif
