/* largest.h: the elements of largest magnitude; included once a precision.
 *
 * Of equal magnitudes the first ones are taken: the result is a function of the vector alone. Magnitudes are
 * compared as integers, whose order is the same, with NaN above infinity.
 */

#define HIGHEST ((BITS)1 << (8 * sizeof(BITS) - 1)) /* above every magnitude */

INLINE BITS NAME(magnitude)(REAL x)
{
    BITS bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & (HIGHEST - 1);
}

/* How many elements have at least this magnitude. */
INLINE ptrdiff_t NAME(reaching)(const REAL *restrict x, ptrdiff_t count, BITS least)
{
    BITS total = 0;
#pragma omp simd reduction(+ : total)
    for (ptrdiff_t i = 0; i < count; i++)
        total += NAME(magnitude)(x[i]) >= least;
    return (ptrdiff_t)total;
}

/* A magnitude that `size` to `most` elements reach, or more if some have the same: by bisection of the
 * magnitudes from `low`, which enough elements must reach, to the largest. */
INLINE BITS NAME(bisect)(const REAL *restrict x, ptrdiff_t count, ptrdiff_t size, ptrdiff_t most, BITS low)
{
    BITS high = 0;
#pragma omp simd reduction(max : high)
    for (ptrdiff_t i = 0; i < count; i++)
        high = NAME(magnitude)(x[i]) > high ? NAME(magnitude)(x[i]) : high;
    for (high++; high - low > 1;) {
        const BITS middle = low + (high - low) / 2;
        const ptrdiff_t found = NAME(reaching)(x, count, middle);
        if (found < size)
            high = middle;
        else
            low = middle;
        if (found >= size && found <= most)
            break;
    }
    return low;
}

/* The places of `size` elements that reach a magnitude found by `bisect`, ascending; places in x by default. */
INLINE void NAME(take)(const REAL *restrict x, ptrdiff_t count, ptrdiff_t size, BITS least,
                       const int32_t *restrict places, int32_t first, int32_t *restrict out)
{
    ptrdiff_t equal = size - NAME(reaching)(x, count, least + 1), taken = 0; /* of this magnitude the first */
    for (ptrdiff_t i = 0; taken < size; i++) {
        const BITS magnitude = NAME(magnitude)(x[i]);
        const int same = magnitude == least;
        out[taken] = first + (places == NULL ? (int32_t)i : places[i]);
        taken += (magnitude > least) | (same & (equal > 0));
        equal -= same;
    }
}
