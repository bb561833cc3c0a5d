/* philox.c: Philox4x64-10 (Salmon, Moraes, Dror, Shaw 2011), a random function of a key and a counter.
 *
 * Design note. key = (seed, stream), counter = (block, 0, worker, task) with block = 1, 2, …: as
 * numpy.random.Philox, which increments its counter before use. Each block gives four numbers. Bound by 20
 * wide multiplications a block, some 10 ns.
 */
#include "philox.h"

static inline uint64_t multiply(uint64_t a, uint64_t b, uint64_t *high)
{
#ifdef __SIZEOF_INT128__
    const unsigned __int128 product = (unsigned __int128)a * b;
    *high = (uint64_t)(product >> 64);
#else
    const uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), carry = a0 * b1 + (uint32_t)middle;
    *high = a1 * b1 + (middle >> 32) + (carry >> 32);
#endif
    return a * b;
}

static inline void philox(const uint64_t key[2], const uint64_t counter[4], uint64_t out[4])
{
    uint64_t a = counter[0], b = counter[1], c = counter[2], d = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B97F4A7C15u, k1 += 0xBB67AE8584CAA73Bu) {
        uint64_t high_a, high_c;
        const uint64_t low_a = multiply(0xD2E7470EE14C6C93u, a, &high_a),
                       low_c = multiply(0xCA5A826395121157u, c, &high_c);
        a = high_c ^ b ^ k0;
        b = low_c;
        c = high_a ^ d ^ k1;
        d = low_a;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

/* Whole numbers in [0, bound): the high word of bound * random, biased by less than bound / 2^64. */
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
