/* combination.h: a codeword on one tile of blocks (blocks.h); included once a precision. */

#define LINE (64 / (ptrdiff_t)sizeof(REAL)) /* elements of a cache line */

/* out = or += (keep) four scaled sources at once: out is then loaded and stored a quarter as often. */
INLINE void NAME(quad)(REAL *restrict out, const REAL *f, const REAL *const *source, ptrdiff_t first,
                       ptrdiff_t last, int keep)
{
    const REAL a = f[0], b = f[1], c = f[2], d = f[3];
    const REAL *restrict p = source[0], *restrict q = source[1];
    const REAL *restrict r = source[2], *restrict s = source[3];
    if (keep) {
#pragma omp simd
        for (ptrdiff_t i = first; i < last; i++)
            out[i] += (a * p[i] + b * q[i]) + (c * r[i] + d * s[i]);
    } else {
#pragma omp simd
        for (ptrdiff_t i = first; i < last; i++)
            out[i] = (a * p[i] + b * q[i]) + (c * r[i] + d * s[i]);
    }
}

/* The same by cache lines, prefetching `ahead` elements. */
INLINE void NAME(quad_ahead)(REAL *restrict out, const REAL *f, const REAL *const *source, ptrdiff_t count,
                             int keep, ptrdiff_t ahead)
{
    ptrdiff_t i = 0;
    for (; ahead != 0 && i + LINE <= count; i += LINE) {
        for (int h = 0; h < 4; h++)
            PREFETCH(source[h] + i + ahead);
        NAME(quad)(out, f, source, i, i + LINE, keep);
    }
    NAME(quad)(out, f, source, i, count, keep);
}

/* One codeword on one tile of columns. */
INLINE void NAME(combine)(REAL *out, const REAL *vector, ptrdiff_t length, const int32_t *index,
                          const REAL *value, ptrdiff_t weight, ptrdiff_t block, ptrdiff_t start,
                          ptrdiff_t count, REAL scale, int keep, ptrdiff_t ahead)
{
    const REAL *source[4];
    REAL factor[4];
    int held = 0;
    for (ptrdiff_t t = 0; t < weight; t++) {
        const ptrdiff_t valid = value[t] == 0 ? 0 : NAME(span)(length, block, index[t], start, count);
        if (valid == 0)
            continue;
        factor[held] = scale * value[t];
        source[held] = vector + (ptrdiff_t)index[t] * block + start;
        if (valid < count) {
            if (!keep)
                memset(out, 0, (size_t)count * sizeof(REAL));
            NAME(add)(out, factor[held], source[held], valid);
            keep = 1;
        } else if (++held == 4) {
            NAME(quad_ahead)(out, factor, source, count, keep, ahead);
            keep = 1;
            held = 0;
        }
    }
    for (int h = 0; h < held; h++, keep = 1) {
        if (keep)
            NAME(add)(out, factor[h], source[h], count);
        else
            NAME(set)(out, factor[h], source[h], count);
    }
    if (!keep)
        memset(out, 0, (size_t)count * sizeof(REAL));
}

#undef LINE
