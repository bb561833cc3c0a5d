/* philox_block.h: one block of Philox4x64-10 (Salmon, Moraes, Dror, Shaw, SC 2011): four random numbers from
 * a key and a counter.
 *
 * Design note. key = (seed, stream), counter = (block, part, worker, task) with block = 1, 2, ...: as
 * numpy.random.Philox, which increments its counter before use. Bound by 20 wide multiplications, some 10 ns;
 * blocks are independent of each other, so a processor overlaps them.
 */
#ifndef PDCODE_PHILOX_BLOCK_H
#define PDCODE_PHILOX_BLOCK_H

#include <stdint.h>

#include "simd.h"

INLINE uint64_t multiply(uint64_t a, uint64_t b, uint64_t *high)
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

INLINE void philox(const uint64_t key[2], const uint64_t counter[4], uint64_t out[4])
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

#endif
