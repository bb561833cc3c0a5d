/* intake.c: what rank 0 and replicas do with a payload, for all its units in one call.
 *
 * Design note. Small payloads cost less than the calls that take them in, so the loops over units are here;
 * the work on a unit is that of quantise.c, finite.c and decode.c.
 */
#ifndef REAL
#include "decode.h"
#include "finite.h"
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
#endif
