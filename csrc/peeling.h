/* peeling.h: release blocks of which a codeword knows all the others, in cascade. */
#ifndef PDCODE_PEELING_H
#define PDCODE_PEELING_H

#include <stddef.h>
#include <stdint.h>

/* A bipartite graph of codewords and blocks. Buffers are owned by the caller. */
struct peeling {
    ptrdiff_t blocks, words, edges, released;
    int32_t *latest; /* (blocks): newest edge of a block, -1 for none */
    int8_t *known;   /* (blocks) */
    int32_t *order;  /* (blocks, 2): codeword and block of each release */
    int32_t *first;  /* (words + 1): its edges are first[i] ... first[i + 1] - 1 */
    int32_t *count;  /* (words): its blocks that are not known */
    int32_t *mix;    /* (words): their numbers, xor'd */
    int32_t *stack;  /* (words): work */
    int32_t *block;  /* (edges) */
    int32_t *word;   /* (edges) */
    int32_t *older;  /* (edges): next older edge of its block, -1 for none */
    double *weight;  /* (edges) */
};

void peeling_begin(struct peeling *p);

/* Add a codeword; the caller has checked its indices and reserved memory for it and its edges. */
void peeling_add(struct peeling *p, const int32_t *indices, const float *single, const double *full,
                 ptrdiff_t weight);

/* Blocks of releases from ... to - 1, from the payloads (elements) at addresses and blocks released before. */
void peeling_release_f32(const struct peeling *p, ptrdiff_t from, ptrdiff_t to, const uint64_t *addresses,
                         float *blocks, ptrdiff_t elements);
void peeling_release_f64(const struct peeling *p, ptrdiff_t from, ptrdiff_t to, const uint64_t *addresses,
                         double *blocks, ptrdiff_t elements);

#endif
