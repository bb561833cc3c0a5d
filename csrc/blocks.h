/* blocks.h: what encode and decode share; included once a precision.
 *
 * A vector of `length` elements is cut into blocks of `block`; the last one may be short, the ones after it
 * are empty, and all of them count as padded with zeros. Kernels walk tiles of columns [start, start + count)
 * that all blocks have in common.
 */

/* Elements that block j really has in a tile; 0 for a block outside the vector, whatever its index. */
INLINE ptrdiff_t NAME(span)(ptrdiff_t length, ptrdiff_t block, int32_t j, ptrdiff_t start, ptrdiff_t count)
{
    const ptrdiff_t left = length - ((ptrdiff_t)j * block + start);
    return j < 0 || left <= 0 ? 0 : left < count ? left : count;
}

/* out = or += factor * source. */
INLINE void NAME(set)(REAL *restrict out, REAL factor, const REAL *restrict source, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = factor * source[i];
}

INLINE void NAME(add)(REAL *restrict out, REAL factor, const REAL *restrict source, ptrdiff_t count)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] += factor * source[i];
}
