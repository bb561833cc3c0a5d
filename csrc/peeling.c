/* peeling.c: the peeling decoder's graph, and the payload arithmetic that it schedules.
 *
 * Design note. Each codeword keeps how many of its blocks are not known and the xor of their numbers; where the
 * count is 1 the xor is the block, so no search is needed (the trick of invertible Bloom lookup tables: Goodrich
 * and Mitzenmacher, Allerton 2011). Each block has a list of its edges, which is walked once, when it is
 * released: O(edges) in all. Payloads are not touched then: the order of releases is a schedule, executed when
 * the gradient is read. A release reads its payload and the blocks that are subtracted once and writes one
 * block, a tile at a time, so that a block stays in the second-level cache while releases that need it pass:
 * bound by bandwidth.
 */
#ifndef REAL
#include "peeling.h"

#include <string.h>

void peeling_begin(struct peeling *p)
{
    p->words = p->edges = p->released = 0;
    p->first[0] = 0;
    memset(p->known, 0, (size_t)p->blocks);
    memset(p->latest, -1, (size_t)p->blocks * sizeof(int32_t));
}

static void release(struct peeling *p, int32_t word)
{
    ptrdiff_t height = 1;
    p->stack[0] = word;
    while (height) {
        const int32_t i = p->stack[--height], j = p->mix[i];
        if (p->count[i] != 1)
            continue; /* its last block was released by another */
        p->order[2 * p->released] = i;
        p->order[2 * p->released++ + 1] = j;
        p->known[j] = 1;
        for (int32_t edge = p->latest[j]; edge >= 0; edge = p->older[edge]) {
            const int32_t other = p->word[edge];
            if (p->weight[edge] == 0)
                continue;
            p->mix[other] ^= j;
            if (--p->count[other] == 1)
                p->stack[height++] = other;
        }
    }
}

void peeling_add(struct peeling *p, const int32_t *indices, const float *single, const double *full,
                 ptrdiff_t weight)
{
    const int32_t i = (int32_t)p->words++;
    for (ptrdiff_t t = 0; t < weight; t++) {
        const double value = single ? (double)single[t] : full[t];
        const int32_t j = indices[t];
        if (value == 0)
            continue;
        const int32_t latest = p->latest[j];
        if (latest >= 0 && p->word[latest] == i) { /* named twice */
            p->weight[latest] += value;
            continue;
        }
        const int32_t edge = (int32_t)p->edges++;
        p->block[edge] = j;
        p->word[edge] = i;
        p->weight[edge] = value;
        p->older[edge] = latest;
        p->latest[j] = edge;
    }
    p->first[i + 1] = (int32_t)p->edges;
    p->count[i] = p->mix[i] = 0;
    for (int32_t edge = p->first[i]; edge < p->first[i + 1]; edge++)
        if (p->weight[edge] != 0 && !p->known[p->block[edge]]) {
            p->count[i]++;
            p->mix[i] ^= p->block[edge];
        }
    if (p->count[i] == 1)
        release(p, i);
}

#define KERNEL "peeling.c"
#include "real.h"
#else

#define TILE 4096

VECTORISED
void NAME(peeling_release)(const struct peeling *p, ptrdiff_t from, ptrdiff_t to, const uint64_t *addresses,
                           REAL *blocks, ptrdiff_t elements)
{
    for (ptrdiff_t start = 0; start < elements; start += TILE) {
        const ptrdiff_t count = elements - start < TILE ? elements - start : TILE;
        for (ptrdiff_t t = from; t < to; t++) {
            const int32_t i = p->order[2 * t], j = p->order[2 * t + 1];
            const REAL *restrict y = (const REAL *)(uintptr_t)addresses[i] + start;
            REAL *restrict out = blocks + (ptrdiff_t)j * elements + start;
            double own = 1;
            for (int32_t edge = p->first[i]; edge < p->first[i + 1]; edge++)
                if (p->block[edge] == j)
                    own = p->weight[edge];
            const REAL scale = (REAL)(1 / own);
#pragma omp simd
            for (ptrdiff_t c = 0; c < count; c++)
                out[c] = scale * y[c];
            for (int32_t edge = p->first[i]; edge < p->first[i + 1]; edge++) {
                if (p->block[edge] == j || p->weight[edge] == 0)
                    continue;
                const REAL factor = (REAL)(p->weight[edge] / own);
                const REAL *restrict other = blocks + (ptrdiff_t)p->block[edge] * elements + start;
#pragma omp simd
                for (ptrdiff_t c = 0; c < count; c++)
                    out[c] -= factor * other[c];
            }
        }
    }
}

#undef TILE
#endif
