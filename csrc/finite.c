/* finite.c: find NaN and infinity.
 *
 * Design note. A number is not finite if all bits of its exponent are set, so that adding one to the lowest of
 * them carries into the sign's place; the carries of a tile are gathered by or. Integer arithmetic: no trap, no
 * rounding, and the compiler may not assume that such numbers do not occur. Bound by bandwidth; stops at the
 * first bad tile.
 */
#ifndef REAL
#include "finite.h"
#define KERNEL "finite.c"
#include "real.h"
#else

#define TILE 4096
#define MANTISSA (sizeof(REAL) == 4 ? 23 : 52)

VECTORISED
int NAME(all_finite)(const REAL *values, ptrdiff_t count)
{
    const BITS top = (BITS)1 << (8 * sizeof(REAL) - 1), one = (BITS)1 << MANTISSA;
    for (ptrdiff_t start = 0; start < count; start += TILE) {
        const ptrdiff_t end = count - start < TILE ? count : start + TILE;
        BITS bad = 0;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = start; i < end; i++) {
            BITS bits;
            memcpy(&bits, values + i, sizeof bits);
            bad |= (bits & ~top) + one;
        }
        if (bad & top)
            return 0;
    }
    return 1;
}

#undef TILE
#undef MANTISSA
#endif
