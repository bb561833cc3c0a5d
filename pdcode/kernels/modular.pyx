"""Vectors of integers modulo 2**bits in blocks of words, which may be added up in any order.

A group of at most 1,024 elements is a block: the integers in lanes, ⌊64/bits⌋ a word, from the lowest bit; a
checksum, Σ w_i q_i modulo 2⁶⁴ of the unreduced integers q_i, with fixed weights w_i; and, in the first block,
a word of counts: requests of the end (bits 0-15) and of a checkpoint (16-31), payloads that are not finite
(32-47), and payloads (48-63). Lanes are added modulo 2**bits, the last two words modulo 2⁶⁴.

A group whose scale is not above 0 has integers 0, and its largest magnitude as the checksum, in units of
2⁻²³, rounded up, at most 2²⁴.
"""


cdef extern from "modular.h":
    enum:
        PDCODE_MODULAR_GROUP, PDCODE_MODULAR_EXTRA, PDCODE_MODULAR_COUNT, PDCODE_MODULAR_BROKEN

GROUP, EXTRA = PDCODE_MODULAR_GROUP, PDCODE_MODULAR_EXTRA
COUNT, BROKEN = PDCODE_MODULAR_COUNT, PDCODE_MODULAR_BROKEN


@kernel
def add(total: writeable(uint64_t[W]), words: uint64_t[W], block: Py_ssize_t, bits: int):
    """Add blocks of `block` words to others."""
    require(2 <= bits <= 16 and block > PDCODE_MODULAR_EXTRA and W % block == 0)
    modular_add(total, words, W // block, block, bits)


@kernel
def encode(payload: writeable(real[N]), scales: float[G], group: Py_ssize_t,
           words: writeable(uint64_t[W]), bits: int) -> int:
    """Round a payload in place to multiples of its groups' scales, and write these integers as blocks.

    Integers are within ±2⁴⁰. Return whether the payload is finite; the blocks of another are zero but for the
    counts.
    """
    require(2 <= bits <= 16 and G > 0 and 0 < group <= PDCODE_MODULAR_GROUP and W % G == 0)
    require((G - 1) * group < N and N <= G * group)
    require((W // G - PDCODE_MODULAR_EXTRA) * (64 // bits) >= group)
    return modular_encode(payload, N, scales, G, group, words, W // G, bits)


@kernel
def decode(words: uint64_t[W], bits: int, margin: double, scales: writeable(float[G]), group: Py_ssize_t,
           sums: writeable(real[N]), found: writeable(int64_t[2])):
    """Read the sums of payloads from the sum of their blocks, and set the scales of the next payloads.

    These have room for `margin` times the largest sum of the group, and are at least half of the last ones;
    not above 0: unknown. A sum that has wrapped by 2**bits is mended if it is the only one of its group. If
    two or three have, or one by a multiple of that, the group is lost: its sums are 0. More wraps have the
    same effect, but for one group in 2**(53 - bits): missed, or mended at a wrong place. `found` counts
    groups mended, and lost.
    """
    require(2 <= bits <= 16 and margin > 0 and G > 0 and 0 < group <= PDCODE_MODULAR_GROUP and W % G == 0)
    require((G - 1) * group < N and N <= G * group)
    require((W // G - PDCODE_MODULAR_EXTRA) * (64 // bits) >= group)
    modular_decode(words, G, W // G, bits, margin, scales, group, sums, N, found)
