/* field.c: arithmetic modulo a prime p < 2^61: matrix products, Lagrange's basis, Gao's decoder.
 *
 * Design note. Inner loops add up products and do not reduce them. Of p < 2^61, 64 products and a residue fit into 128
 * bits: bound by multiplications, at a quarter to half the speed of memory. Of p < 2^31, four products fit into 64 bits
 * and are vectorised; their sum is added up as two halves: bound by memory. Sums are then reduced by shifts where p is a
 * Mersenne number, such as 2^31 - 1 and 2^61 - 1, and else by a division.
 */
#include "field.h"

#include <string.h>

#include "simd.h"

__extension__ typedef unsigned __int128 wide;

#define NARROW ((uint64_t)1 << 31)
#define LOW 0xffffffffu
#define WIDE_TERMS 64    /* products that are added up before a reduction … */
#define NARROW_TERMS 256 /* … of a small p: few enough for a tile of as many rows to stay in cache */
#define TILE 512         /* columns */

INLINE uint64_t reduce(wide x, uint64_t p)
{
    if (p & (p + 1))
        return (uint64_t)(x % p);
    const int bits = __builtin_ctzll(p + 1);
    while (x > p)
        x = (x & p) + (x >> bits);
    return x == p ? 0 : (uint64_t)x;
}

INLINE uint64_t times(uint64_t a, uint64_t b, uint64_t p)
{
    return reduce((wide)a * b, p);
}

INLINE uint64_t minus(uint64_t a, uint64_t b, uint64_t p)
{
    return a >= b ? a - b : a + p - b;
}

/* Fermat: a^(p - 2). */
INLINE uint64_t inverse(uint64_t a, uint64_t p)
{
    uint64_t found = 1;
    for (uint64_t power = p - 2; power; power >>= 1, a = times(a, a, p))
        if (power & 1)
            found = times(found, a, p);
    return found;
}

INLINE uint64_t dot_wide(const uint64_t *a, const uint64_t *b, ptrdiff_t length, uint64_t p)
{
    uint64_t found = 0;
    for (ptrdiff_t start = 0; start < length; start += WIDE_TERMS) {
        const ptrdiff_t end = length - start < WIDE_TERMS ? length : start + WIDE_TERMS;
        wide sum = found;
        for (ptrdiff_t i = start; i < end; i++)
            sum += (wide)a[i] * b[i];
        found = reduce(sum, p);
    }
    return found;
}

INLINE uint64_t dot_narrow(const uint64_t *a, const uint64_t *b, ptrdiff_t length, uint64_t p)
{
    uint64_t low = 0, high = 0;
#pragma omp simd reduction(+ : low, high)
    for (ptrdiff_t i = 0; i < length; i++) {
        const uint64_t product = (a[i] & LOW) * (b[i] & LOW);
        low += product & LOW;
        high += product >> 32;
    }
    return reduce(((wide)high << 32) + low, p);
}

VECTORISED
void field_product_transposed(const uint64_t *a, const uint64_t *b, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t columns,
                              uint64_t p, uint64_t *out)
{
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) {
            const uint64_t *x = a + i * inner, *y = b + j * inner;
            out[i * columns + j] = p < NARROW ? dot_narrow(x, y, inner, p) : dot_wide(x, y, inner, p);
        }
}

/* Four rows and their coefficients: so few that they do not evict each other, whatever the stride is a multiple of. */
struct four {
    const uint64_t *row[4];
    uint64_t factor[4];
};

INLINE struct four next_four(const uint64_t *coefficients, const uint64_t *rows, ptrdiff_t terms, ptrdiff_t stride)
{
    struct four next;
    for (ptrdiff_t k = 0; k < 4; k++) { /* the last ones may be fewer: zero times the first one */
        next.factor[k] = k < terms ? coefficients[k] : 0;
        next.row[k] = rows + (k < terms ? k : 0) * stride;
    }
    return next;
}

/* Add coefficients (terms) times rows (terms, stride) to a tile of `out`. */
INLINE void combine_wide(const uint64_t *coefficients, const uint64_t *rows, ptrdiff_t terms, ptrdiff_t stride,
                         ptrdiff_t width, uint64_t p, uint64_t *out)
{
    wide sums[TILE];
    for (ptrdiff_t j = 0; j < width; j++)
        sums[j] = out[j];
    for (ptrdiff_t k = 0; k < terms; k += 4) {
        const struct four next = next_four(coefficients + k, rows + k * stride, terms - k, stride);
        for (ptrdiff_t j = 0; j < width; j++)
            sums[j] += (wide)next.factor[0] * next.row[0][j] + (wide)next.factor[1] * next.row[1][j] +
                       (wide)next.factor[2] * next.row[2][j] + (wide)next.factor[3] * next.row[3][j];
    }
    for (ptrdiff_t j = 0; j < width; j++)
        out[j] = reduce(sums[j], p);
}

INLINE void combine_narrow(const uint64_t *coefficients, const uint64_t *rows, ptrdiff_t terms, ptrdiff_t stride,
                           ptrdiff_t width, uint64_t p, uint64_t *out)
{
    uint64_t low[TILE], high[TILE] = {0};
    memcpy(low, out, (size_t)width * sizeof *low);
    for (ptrdiff_t k = 0; k < terms; k += 4) {
        const struct four next = next_four(coefficients + k, rows + k * stride, terms - k, stride);
        const uint64_t a = next.factor[0] & LOW, b = next.factor[1] & LOW, c = next.factor[2] & LOW,
                       d = next.factor[3] & LOW;
        const uint64_t *first = next.row[0], *second = next.row[1], *third = next.row[2], *fourth = next.row[3];
#pragma omp simd
        for (ptrdiff_t j = 0; j < width; j++) {
            const uint64_t sum =
                a * (first[j] & LOW) + b * (second[j] & LOW) + c * (third[j] & LOW) + d * (fourth[j] & LOW);
            low[j] += sum & LOW;
            high[j] += sum >> 32;
        }
    }
    for (ptrdiff_t j = 0; j < width; j++)
        out[j] = reduce(((wide)high[j] << 32) + low[j], p);
}

VECTORISED
void field_product(const uint64_t *a, const uint64_t *b, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t columns, uint64_t p,
                   uint64_t *out)
{
    const ptrdiff_t most = p < NARROW ? NARROW_TERMS : WIDE_TERMS;
    memset(out, 0, (size_t)(rows * columns) * sizeof *out);
    for (ptrdiff_t first = 0; first < inner; first += most) {
        const ptrdiff_t terms = inner - first < most ? inner - first : most;
        for (ptrdiff_t start = 0; start < columns; start += TILE) {
            const ptrdiff_t width = columns - start < TILE ? columns - start : TILE;
            const uint64_t *from = b + first * columns + start;
            for (ptrdiff_t i = 0; i < rows; i++) {
                const uint64_t *coefficients = a + i * inner + first;
                uint64_t *to = out + i * columns + start;
                if (p < NARROW)
                    combine_narrow(coefficients, from, terms, columns, width, p, to);
                else
                    combine_wide(coefficients, from, terms, columns, width, p, to);
            }
        }
    }
}

void field_multiply(const uint64_t *a, const uint64_t *b, ptrdiff_t length, uint64_t p, uint64_t *out)
{
    for (ptrdiff_t i = 0; i < length; i++)
        out[i] = times(a[i], b[i], p);
}

void field_basis(const uint64_t *points, ptrdiff_t count, const uint64_t *targets, ptrdiff_t rows, uint64_t p,
                 uint64_t *weights, uint64_t *out)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        uint64_t product = 1;
        for (ptrdiff_t j = 0; j < count; j++)
            if (j != i)
                product = times(product, minus(points[i], points[j], p), p);
        weights[i] = inverse(product, p);
    }
    for (ptrdiff_t t = 0; t < rows; t++) {
        uint64_t *row = out + t * count, product = 1;
        for (ptrdiff_t i = 0; i < count; i++) { /* products of the differences before a point … */
            row[i] = times(product, weights[i], p);
            product = times(product, minus(targets[t], points[i], p), p);
        }
        product = 1;
        for (ptrdiff_t i = count - 1; i >= 0; i--) { /* … and after it: a target may be a point */
            row[i] = times(product, row[i], p);
            product = times(product, minus(targets[t], points[i], p), p);
        }
    }
}

/* Polynomials are arrays of coefficients, the coefficient of z^0 first. */

INLINE ptrdiff_t degree(const uint64_t *f, ptrdiff_t most)
{
    while (most >= 0 && !f[most])
        most--;
    return most;
}

INLINE uint64_t value(const uint64_t *f, ptrdiff_t most, uint64_t at, uint64_t p)
{
    uint64_t found = 0;
    for (ptrdiff_t i = most; i >= 0; i--)
        found = reduce((wide)found * at + f[i], p);
    return found;
}

/* Write the product of all z - points[i], and the polynomial through the points; `room` is for as many coefficients. */
INLINE void through(const uint64_t *points, const uint64_t *word, ptrdiff_t count, uint64_t p, uint64_t *all,
                    uint64_t *one, uint64_t *room)
{
    memset(all, 0, (size_t)(count + 1) * sizeof *all);
    memset(one, 0, (size_t)(count + 1) * sizeof *one);
    all[0] = 1;
    for (ptrdiff_t i = 0; i < count; i++)
        for (ptrdiff_t j = i + 1; j >= 0; j--)
            all[j] = minus(j ? all[j - 1] : 0, times(points[i], all[j], p), p);
    for (ptrdiff_t i = 0; i < count; i++) {
        room[count - 1] = all[count]; /* all / (z - points[i]), whose value there makes it Lagrange's basis */
        for (ptrdiff_t j = count - 1; j > 0; j--)
            room[j - 1] = reduce((wide)points[i] * room[j] + all[j], p);
        const uint64_t scale = times(word[i], inverse(value(room, count - 1, points[i], p), p), p);
        for (ptrdiff_t j = 0; j < count; j++)
            one[j] = reduce((wide)scale * room[j] + one[j], p);
    }
}

ptrdiff_t field_errors(const uint64_t *points, const uint64_t *word, ptrdiff_t count, ptrdiff_t dimension, uint64_t p,
                       uint64_t *room, int64_t *wrong)
{
    uint64_t *f = room, *g = f + count + 1, *u = g + count + 1, *v = u + count + 1, *swap = v + count + 1;
    through(points, word, count, p, f, g, swap);
    memset(u, 0, (size_t)(count + 1) * sizeof *u);
    memset(v, 0, (size_t)(count + 1) * sizeof *v);
    v[0] = 1;
    ptrdiff_t high = count, low = degree(g, count - 1);
    while (2 * low >= count + dimension) { /* f, g ← g, f mod g; u and v are the factors of the word's polynomial */
        const uint64_t lead = inverse(g[low], p);
        for (; high >= low; high = degree(f, high)) {
            const uint64_t quotient = times(f[high], lead, p);
            const ptrdiff_t shift = high - low;
            for (ptrdiff_t j = 0; j <= low; j++)
                f[j + shift] = minus(f[j + shift], times(quotient, g[j], p), p);
            for (ptrdiff_t j = 0; j + shift <= count; j++)
                u[j + shift] = minus(u[j + shift], times(quotient, v[j], p), p);
        }
        swap = f, f = g, g = swap;
        swap = u, u = v, v = swap;
        const ptrdiff_t last = high;
        high = low, low = last;
    }
    const ptrdiff_t errors = degree(v, count), above = low - errors;
    const uint64_t lead = inverse(v[errors], p);
    memset(f, 0, (size_t)(count + 1) * sizeof *f);
    for (ptrdiff_t shift = above; shift >= 0; shift--) { /* f ← g / v */
        f[shift] = times(g[shift + errors], lead, p);
        for (ptrdiff_t j = 0; j <= errors; j++)
            g[j + shift] = minus(g[j + shift], times(f[shift], v[j], p), p);
    }
    if (degree(g, count) >= 0 || above >= dimension)
        return -1;
    ptrdiff_t found = 0;
    for (ptrdiff_t i = 0; i < count; i++)
        if (value(f, dimension - 1, points[i], p) != word[i])
            wrong[found++] = i;
    return found;
}
