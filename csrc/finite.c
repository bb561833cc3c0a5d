/* finite.c: find NaN, infinity and magnitudes that no payload may have.
 *
 * Design note. The bits of magnitudes are ordered as the numbers are, with infinity and NaN above all others. A
 * magnitude is thus at or above a limit if adding the limit's distance from the sign's place carries into it; the
 * carries of a tile are gathered by or. Integer arithmetic: no trap, no rounding, and the compiler may not assume
 * that such numbers do not occur. Bound by bandwidth; stops at the first bad tile.
 */
#ifndef REAL
#include "finite.h"
#define KERNEL "finite.c"
#include "real.h"
#else

#define TILE 4096
#define MANTISSA (sizeof(REAL) == 4 ? 23 : 52)

#define BIAS (sizeof(REAL) == 4 ? 127 : 1023)
#define TOP ((BITS)1 << (8 * sizeof(REAL) - 1))

/* Whether all magnitudes are below the one with bits TOP - distance. */
INLINE int NAME(all_below)(const REAL *values, ptrdiff_t count, const BITS distance)
{
    for (ptrdiff_t start = 0; start < count; start += TILE) {
        const ptrdiff_t end = count - start < TILE ? count : start + TILE;
        BITS bad = 0;
#pragma omp simd reduction(| : bad)
        for (ptrdiff_t i = start; i < end; i++) {
            BITS bits;
            memcpy(&bits, values + i, sizeof bits);
            bad |= (bits & ~TOP) + distance;
        }
        if (bad & TOP)
            return 0;
    }
    return 1;
}

VECTORISED
int NAME(all_finite)(const REAL *values, ptrdiff_t count)
{
    return NAME(all_below)(values, count, (BITS)1 << MANTISSA);
}

VECTORISED
int NAME(all_usable)(const REAL *values, ptrdiff_t count)
{
    return NAME(all_below)(values, count, TOP - ((BITS)(BIAS + ilogb(LARGEST_ELEMENT(sizeof(REAL)))) << MANTISSA));
}

#undef TILE
#undef TOP
#undef BIAS
#undef MANTISSA
#endif
