/* codewords.c: codewords to and from messages. */
#include <string.h>

#include "codewords.h"

/* `size` is 1, 2 or 4 bytes. */
void codewords_widen(const uint8_t *narrow, ptrdiff_t size, ptrdiff_t count, int32_t *wide)
{
    for (ptrdiff_t i = 0; i < count; i++)
        wide[i] = size == 1   ? narrow[i]
                  : size == 2 ? ((const uint16_t *)narrow)[i]
                              : (int32_t)((const uint32_t *)narrow)[i];
}

void codewords_narrow(const int32_t *wide, ptrdiff_t count, ptrdiff_t size, uint8_t *narrow)
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

/* Read the codewords of all sections. */
void codewords_read(const struct codewords_section *sections, ptrdiff_t count)
{
    for (const struct codewords_section *s = sections; s < sections + count; s++) {
        memcpy(s->values, s->sent, (size_t)s->bytes);
        codewords_widen(s->places, s->size, s->count, s->indices);
    }
}
