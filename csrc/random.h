/* random.h: many 32-bit random numbers at once, by Threefry4x32-13 (Salmon, Moraes, Dror, Shaw, SC 2011).
 *
 * Design note. Philox4x64 (philox_block.h) needs products of 64 bits, and no vector unit has their upper half.
 * Threefry needs additions, rotations and exclusive ors of 32 bits, and vectorises as it stands: 0.06 ns for 16
 * bits with AVX-512, where Philox took 0.9. With 12 rounds or more its authors found no flaw; 13 is one of the
 * numbers of rounds for which they publish values. Key and three words of the counter are one block of Philox,
 * so that all that keys that one keys these numbers too; the first word of the counter counts.
 */
#ifndef PDCODE_RANDOM_H
#define PDCODE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "philox_block.h"

#define RANDOM_ROOM 512 /* words that are made at once, at the most */

struct random {
    uint32_t key[4], counter[4];
};

/* The numbers of (seed, stream), and of (part, worker, task). */
INLINE struct random random_at(const uint64_t key[2], const uint64_t place[3])
{
    const uint64_t counter[4] = {1, place[0], place[1], place[2]};
    uint64_t drawn[4];
    struct random random;
    philox(key, counter, drawn);
    for (int i = 0; i < 4; i++) {
        random.key[i] = (uint32_t)(drawn[i / 2] >> i % 2 * 32);
        random.counter[i] = (uint32_t)(drawn[2 + i / 2] >> i % 2 * 32);
    }
    return random;
}

INLINE uint32_t rotated(uint32_t x, const int bits)
{
    return x << bits | x >> (32 - bits);
}

/* `count` words of the blocks from `first` on: first the first words of all of them, then the second ones, and
 * so on. There is room for a multiple of four. */
INLINE void random_words(const struct random *random, uint32_t first, uint32_t *restrict out, ptrdiff_t count)
{
    static const int TURNS[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}};
    const uint32_t *key = random->key, *counter = random->counter;
    const uint32_t k[5] = {key[0], key[1], key[2], key[3], 0x1BD11BDAu ^ key[0] ^ key[1] ^ key[2] ^ key[3]};
    const uint32_t k0 = k[0] + first, k1 = k[1] + counter[1], k2 = k[2] + counter[2], k3 = k[3] + counter[3];
    const ptrdiff_t blocks = (count + 3) / 4;
    uint32_t *restrict out1 = out + blocks, *restrict out2 = out1 + blocks, *restrict out3 = out2 + blocks;
#pragma omp simd
    for (ptrdiff_t i = 0; i < blocks; i++) {
        uint32_t a = k0 + (uint32_t)i, b = k1, c = k2, d = k3;
#pragma GCC unroll 13
        for (int round = 0; round < 13; round++) {
            const int left = TURNS[round % 8][0], right = TURNS[round % 8][1];
            if (round % 2 == 0) {
                a += b, b = rotated(b, left) ^ a;
                c += d, d = rotated(d, right) ^ c;
            } else {
                a += d, d = rotated(d, left) ^ a;
                c += b, b = rotated(b, right) ^ c;
            }
            if (round % 4 == 3) {
                const int turn = round / 4 + 1;
                a += k[turn % 5], b += k[(turn + 1) % 5], c += k[(turn + 2) % 5];
                d += k[(turn + 3) % 5] + (uint32_t)turn;
            }
        }
        out[i] = a, out1[i] = b, out2[i] = c, out3[i] = d;
    }
}

#endif
