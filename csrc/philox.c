/* philox.c: Philox4x64-10 (Salmon, Moraes, Dror, Shaw 2011), a random function of a key and a counter.
 *
 * Design note. key = (seed, stream), counter = (block, 0, worker, task) with block = 1, 2, …: philox_block.h.
 * With one block for each of many keys the iterations are independent: the processor overlaps them, and a block
 * costs about 6 ns. Interleaving two by hand gains a sixth, four lose a quarter.
 */
#include "philox.h"
#include "philox_block.h"

/* Integers in [0, bound): the high word of bound * random, biased by less than bound / 2^64. */
void philox_integers(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, uint64_t bound,
                     int64_t *out, ptrdiff_t count)
{
    const uint64_t key[2] = {seed, stream};
    uint64_t counter[4] = {0, 0, worker, task}, random[4], high;
    for (ptrdiff_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            counter[0]++, philox(key, counter, random);
        multiply(random[i % 4], bound, &high);
        out[i] = (int64_t)high;
    }
}

/* Multiples of 2^-53 in [0, 1). */
void philox_uniforms(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, double *out,
                     ptrdiff_t count)
{
    const uint64_t key[2] = {seed, stream};
    uint64_t counter[4] = {0, 0, worker, task}, random[4];
    for (ptrdiff_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            counter[0]++, philox(key, counter, random);
        out[i] = (double)(random[i % 4] >> 11) * 0x1p-53;
    }
}

/* The first `words` <= 4 numbers of the keys (worker, first), (worker, first + 1), … of each worker. */
void philox_uniforms_of(uint64_t seed, uint64_t stream, const int64_t *workers, const int64_t *first,
                        ptrdiff_t length, ptrdiff_t count, ptrdiff_t words, double *out)
{
    const uint64_t key[2] = {seed, stream};
    for (ptrdiff_t i = 0; i < length && words; i++) {
        uint64_t counter[4] = {1, 0, (uint64_t)workers[i], (uint64_t)first[i]}, random[4];
        for (ptrdiff_t j = 0; j < count; j++, counter[3]++) {
            philox(key, counter, random);
            for (ptrdiff_t word = 0; word < words; word++)
                *out++ = (double)(random[word] >> 11) * 0x1p-53;
        }
    }
}
