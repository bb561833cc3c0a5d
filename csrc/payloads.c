/* payloads.c: a payload of several units, in one call: small ones cost less than a call each. */
#ifndef REAL
#include "finite.h"
#include "payloads.h"
#include "quantise.h"

#define KERNEL "payloads.c"
#include "real.h"
#else

/* Decode all fields; returns whether all elements are usable. */
int NAME(payload_read)(const struct payload_field *fields, ptrdiff_t count)
{
    int usable = 1;
    for (ptrdiff_t i = 0; i < count; i++) {
        const struct payload_field *f = fields + i;
        usable &= f->kind < 0 ? NAME(all_usable)(f->flat, f->rows * f->elements)
                              : NAME(quantise_decode)(f->kind, f->wire, f->rows, f->elements, f->flat);
    }
    return usable;
}
#endif
