"""Payloads as integers modulo 2^bits in blocks of words, which anyone may add up in any order."""

from __future__ import annotations

from typing import NamedTuple

from ..kernels import modular

REQUESTS, SAVE_SHIFT = 0xFFFF, 16  # of the counts of requests in a payload's first block
SCALE_BYTES = 4


class Blocks(NamedTuple):
    """Division of a payload into groups of equal length; each group is a block of words.

    Attributes
    ----------
    bits : int
        The integers are modulo 2^bits.
    groups, group : int
        Number of groups, and elements of a group; the last one may have fewer.
    words : int
        Words of 64 bits of a block: words of the integers, a checksum and counts, see `kernels.modular`.
    """

    bits: int
    groups: int
    group: int
    words: int

    @classmethod
    def of(cls, bits: int, size: int) -> Blocks:
        """Return the division of a payload of `size` elements."""
        groups, lanes = -(-size // modular.GROUP), 64 // bits
        group = -(-size // groups)
        return cls(bits, groups, group, -(-group // lanes) + modular.EXTRA)

    @property
    def bytes(self) -> int:
        """Length of all blocks."""
        return 8 * self.words * self.groups

    @property
    def counts(self) -> int:
        """Place of the word of counts among the words of all blocks."""
        return self.words - 1

    @property
    def scale_bytes(self) -> int:
        """Length of the scales of all groups, float32."""
        return SCALE_BYTES * self.groups
