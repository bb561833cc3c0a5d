"""Quasi group codes: codewords that are closed under addition in part, and what sums of them need.

Heidari, Shirani and Pradhan (IEEE Trans. Inf. Theory): a quasi group code is a subset of a group code, of the
codewords whose index is typical for laws of its symbols; |C + C| may be any number from |C|, as of a group,
to |C|², as of unstructured codes. Their formulas were not at hand. The ones below are our derivation: two
senders with a common random generator G over Z_m, m = p^r, and indices in layers q of length k_q, whose
symbols U have a law each:

- the rate of sender i is Σ k_q H(U_iq), and the sum is decoded if for s = 0 … r - 1
  Σ k_q H(U_1q + U_2q | [U_1q + U_2q]_s) < C_s, with [·]_s = · modulo p^s and k_q per symbol of the codeword;
- computation over a channel Y = X_1 + X_2 + N: C_s = log p^(r-s) - H(N | [N]_s);
- Körner and Marton's problem, to send Z = X_1 + X_2 of two sources: the same with N = Z, and m's logarithm
  minus the rate.

Uniform laws are group codes, a law of one sender with a single value unstructured ones. The best layers are
the solution of a linear program over laws.

The bits that a sum of n payloads needs (`sum_bits`) are the same statement in use: its entropy has ½ log₂ n
more bits than the entropy of one payload, not log₂ n.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pdcode.quasigroup.laws import Law, conditional_entropy, entropy, modulo, sum_law

MOST_LAWS = 2000  # on the grid of the linear program


def typical(*compositions: Sequence[int]) -> np.ndarray:
    """Return all indices whose layers have these compositions.

    Parameters
    ----------
    *compositions : sequence of int
        For each layer the number of symbols 0, 1, … m - 1 in it.

    Returns
    -------
    ndarray of int64, shape (count, Σ lengths)
    """
    layers = [_arrangements(tuple(each)) for each in compositions]
    return np.array([sum(parts, ()) for parts in itertools.product(*layers)], np.int64)


def _arrangements(composition: tuple[int, ...]) -> list[tuple[int, ...]]:
    if not any(composition):
        return [()]
    made = []
    for symbol, count in enumerate(composition):
        if count:
            rest = (*composition[:symbol], count - 1, *composition[symbol + 1 :])
            made += [(symbol, *tail) for tail in _arrangements(rest)]
    return made


def sized(size: int, sums: int) -> np.ndarray:
    """Return `size` indices with exactly `sums` sums of two, 2 · size - 1 to size (size + 1) / 2.

    An interval 0 … b - 1 has 2 b - 1 sums, a number j beyond its end adds j + 1 of them for j ≤ b, and an
    index of a coordinate of its own one for each index before it and itself. For codes modulo m > 4 · size.

    Returns
    -------
    ndarray of int64, shape (size, 1 + number of indices of a coordinate of their own)
    """
    for interval in range(size - 1, 0, -1):
        own = size - interval - 1
        step = sums - (2 * interval - 1) - sum(range(interval + 2, size + 1)) - 1
        if 1 <= step <= interval:
            indices = np.zeros((size, 1 + own), np.int64)
            indices[: interval + 1, 0] = [*range(interval), interval - 1 + step]
            indices[interval + 1 :, 1:] = np.eye(own, dtype=np.int64)
            return indices
    raise ValueError(f"no {size} indices have {sums} sums")


@dataclass(frozen=True)
class QuasiGroupCode:
    """The code {uG + b : u in `indices`} over Z_m.

    Attributes
    ----------
    modulus : int
        m; codewords of n symbols need m^n < 2⁶³.
    indices : ndarray of int, shape (count, k)
    generator : ndarray of int, shape (k, n)
    offset : ndarray of int, shape (n,)
    """

    modulus: int
    indices: np.ndarray
    generator: np.ndarray
    offset: np.ndarray

    @classmethod
    def random(cls, modulus: int, indices: np.ndarray, length: int, seed: int) -> QuasiGroupCode:
        """Return a code with these indices and a random generator and offset."""
        drawn = np.random.default_rng(seed).integers(0, modulus, (indices.shape[1] + 1, length))
        return cls(modulus, indices, drawn[:-1], drawn[-1])

    @property
    def size(self) -> int:
        """Number of codewords."""
        return len(self._distinct(self.indices))

    @property
    def sum_size(self) -> int:
        """Number of sums of two codewords, by enumeration of the sums of indices."""
        sums = [(self.indices + index) % self.modulus for index in self.indices]
        return len(np.unique(np.concatenate([self._distinct(each) for each in sums])))

    @property
    def exponent(self) -> float:
        """log `sum_size` / log `size`: from 1, of a group, to almost 2."""
        return math.log(self.sum_size) / math.log(self.size)

    def words(self) -> np.ndarray:
        """Return the codewords, int64, shape (`size`, n)."""
        places = self.modulus ** np.arange(self.generator.shape[1])
        words: np.ndarray = (self._distinct(self.indices)[:, None] // places + self.offset) % self.modulus
        return words

    def encode(self, messages: np.ndarray) -> np.ndarray:
        """Return the codewords of messages, the numbers of rows of `indices`, int64, shape (…, n)."""
        words: np.ndarray = (self.indices[messages] @ self.generator + self.offset) % self.modulus
        return words

    def decode(
        self, received: np.ndarray, noise: Law, law: np.ndarray | None = None, count: int = 1
    ) -> np.ndarray:
        """Return the most probable messages, by comparison with all codewords.

        Parameters
        ----------
        received : ndarray of int, shape (words, n)
            Codewords plus noise of law `noise`, modulo m.
        law : ndarray, shape (count of indices,), optional
            Probabilities of messages; default: all alike, which is maximum likelihood.
        count : int
            Length of the list.

        Returns
        -------
        ndarray of int64, shape (words, count)
            Most probable first.
        """
        words, table = self.encode(np.arange(len(self.indices))), np.log(np.maximum(noise, 1e-300))
        scores = (
            np.zeros((len(received), len(words)))
            if law is None
            else np.log(law) + np.zeros((len(received), 1))
        )
        for place, column in enumerate(words.T):
            scores = scores + table[(received[:, place, None] - column) % self.modulus]
        return np.argsort(-scores, axis=1, kind="stable")[:, :count]

    @property
    def distance(self) -> int:
        """Least number of places in which two codewords differ."""
        words = self.words()
        return min(int((words[i + 1 :] != word).sum(axis=1).min()) for i, word in enumerate(words[:-1]))

    def sums(self, other: QuasiGroupCode) -> tuple[QuasiGroupCode, np.ndarray]:
        """Return the code of sums with another code of the same generator, and the law of its messages."""
        pairs = (self.indices[:, None] + other.indices) % self.modulus
        found, counts = np.unique(pairs.reshape(-1, pairs.shape[-1]), axis=0, return_counts=True)
        offset = (self.offset + other.offset) % self.modulus
        return QuasiGroupCode(self.modulus, found, self.generator, offset), counts / counts.sum()

    def _distinct(self, indices: np.ndarray) -> np.ndarray:
        """Number the distinct codewords of indices, without the offset."""
        words = indices @ self.generator % self.modulus
        return np.unique(words @ self.modulus ** np.arange(words.shape[1]))


class Layer(NamedTuple):
    """Layer of the indices of two senders: its length per symbol of a codeword, and a law of each."""

    length: float
    first: Law
    second: Law


class Rate(NamedTuple):
    """Rate of each of two senders in bits a symbol, their mean, and the layers that reach it."""

    bits: float
    layers: list[Layer]


def group_pairs(modulus: int) -> list[tuple[Law, Law]]:
    """Return the laws of group codes: uniform ones."""
    return [(np.full(modulus, 1 / modulus),) * 2]


def unstructured_pairs(modulus: int) -> list[tuple[Law, Law]]:
    """Return laws of unstructured codes: each sender's law is on symbols that the other does not have."""
    none = np.eye(modulus)[0]
    return [pair for law in laws(modulus) for pair in ((law, none), (none, law))]


def quasi_group_pairs(modulus: int) -> list[tuple[Law, Law]]:
    """Return laws of quasi group codes: laws of group codes, of unstructured ones, and all equal pairs."""
    equal = [(law, law) for law in laws(modulus)]
    return [*group_pairs(modulus), *unstructured_pairs(modulus), *equal]


def laws(modulus: int) -> list[Law]:
    """Return laws on Z_m: a grid on the simplex, and finer ones of two symbols."""
    steps = next(each for each in range(20, 0, -1) if math.comb(each + modulus - 1, modulus - 1) <= MOST_LAWS)
    bars = itertools.combinations(range(steps + modulus - 1), modulus - 1)
    ends = np.array([(-1, *each, steps + modulus - 1) for each in bars])
    fine = np.zeros((44, modulus))
    fine[:, 1] = [*np.geomspace(1e-4, 0.05, 20), *np.linspace(0.06, 0.5, 24)]
    fine[:, 0] = 1 - fine[:, 1]
    return [*((np.diff(ends) - 1) / steps), *fine]


def computation_rate(noise: Law, prime: int, pairs: Iterable[tuple[Law, Law]]) -> Rate:
    """Return the best rate at which a receiver of X₁ + X₂ + N decodes the sum modulo m of two codewords.

    Parameters
    ----------
    noise : ndarray, shape (m,)
        Law of N; m is a power of `prime`.
    prime : int
    pairs : iterable of (ndarray, ndarray)
        Laws of the two senders' symbols that a layer may have, such as `quasi_group_pairs`.
    """
    divisors, limits = _limits(noise, prime)
    pairs = list(pairs)
    firsts, seconds = (np.array(each) for each in zip(*pairs, strict=True))
    needed = np.array([conditional_entropy(sum_law(firsts, seconds), divisor) for divisor in divisors])
    return _best((entropy(firsts) + entropy(seconds)) / 2, needed, limits, pairs)


def _limits(noise: Law, prime: int) -> tuple[list[int], np.ndarray]:
    """Return p^s and C_s for s = 0 … r - 1."""
    divisors = [prime**s for s in range(round(math.log(len(noise), prime)))]
    limits = [math.log2(len(noise) / each) - conditional_entropy(noise, each) for each in divisors]
    return divisors, np.array(limits)


def _best(
    rates: np.ndarray, needed: np.ndarray, limits: np.ndarray, pairs: Sequence[tuple[Law, Law]]
) -> Rate:
    """Return the largest Σ k_q rates_q with Σ k_q needed_q ≤ limits; 0 if there is none."""
    from scipy.optimize import linprog

    found = linprog(-rates, A_ub=needed, b_ub=limits, method="highs")
    if found.x is None:
        return Rate(0.0, [])
    lengths = zip(found.x.tolist(), pairs, strict=True)
    return Rate(-float(found.fun), [Layer(length, *pair) for length, pair in lengths if length > 1e-9])


def source_rate(total: Law, prime: int, pairs: Iterable[tuple[Law, Law]]) -> float:
    """Return the least rate, in bits, at which two sources each describe the sum modulo m of their symbols.

    `total` is the law of that sum; the other parameters are as for `computation_rate`. Pairs of
    unstructured codes give the rate of Slepian and Wolf only if each source is uniform, as the law of the
    sum says nothing else of the sources.
    """
    return math.log2(len(total)) - computation_rate(total, prime, pairs).bits


def dirty_rate(inputs: Law, noise: Law, prime: int, pairs: Iterable[tuple[Law, Law]]) -> Rate:
    """Return the best sum rate over a channel with two states; each sender knows one.

    The channel is Y = X₁ + S₁ + X₂ + S₂ + N modulo m, with uniform states. Sender i sends X_i = V_i - S_i for
    a codeword V_i. Its index has *covering* layers, which it chooses so that X_i has the law `inputs`, and
    layers that are messages, of one sender each. Two codewords are equal modulo p^s where their indices are,
    and independent otherwise; by the second moment of their number there is a V_i if for s = 1 … r
    Σ k_q H([U_iq]_s) > log p^s - H([X]_s), over covering layers. The receiver gets V_1 + V_2 + N, and decodes
    the sums of all layers as for `computation_rate`.

    For a prime m linear codes cover both states by the same layers: H(X) - H(N). Unstructured codes cover
    each by its own: 2 H(X) - log m - H(N). For m = 2 these are the rates of Philosof and Zamir (IEEE Trans.
    Inf. Theory 2009).

    Parameters
    ----------
    inputs : ndarray, shape (m,)
        Law of each X, which a limit on costs may restrict.
    noise, prime, pairs
        As for `computation_rate`.

    Returns
    -------
    Rate
        Of both senders' messages together, with first the layers of messages, the other sender's layers being
        constant, then covering ones; 0 if states cannot be covered.
    """
    divisors, limits = _limits(noise, prime)
    covering, none = list(pairs), np.eye(len(noise))[0]
    messages = [(law, none) for law in {each.tobytes(): each for pair in covering for each in pair}.values()]
    layers = [*messages, *covering]
    firsts, seconds = (np.array(each) for each in zip(*layers, strict=True))
    decoded = [conditional_entropy(sum_law(firsts, seconds), divisor) for divisor in divisors]
    covers, least = list[np.ndarray](), list[float]()
    for divisor in (each * prime for each in divisors):  # p^s for s = 1 … r
        least += [float(entropy(modulo(inputs, divisor)) - math.log2(divisor))] * 2
        covers += [-entropy(modulo(each, divisor)) for each in (firsts, seconds)]
    needed, count = np.array([*decoded, *covers]), len(messages)
    needed[len(divisors) :, :count] = 0
    rates = np.where(np.arange(len(layers)) < count, entropy(firsts), 0)
    return _best(rates, needed, np.append(limits, least), layers)


def sum_bits(law: np.ndarray, payloads: int, wrap: float = 1e-9) -> int:
    """Return the bits in which a sum of integers wraps with a probability below `wrap`.

    Parameters
    ----------
    law : ndarray, shape (2 h + 1,)
        Probabilities of -h … h, of each of the independent integers.
    payloads : int
        Number of integers.
    """
    total = sum_of(law, payloads)
    return next(bits for bits in itertools.count(1) if wrap_probability(total, bits) < wrap)


def wrap_probability(law: np.ndarray, bits: int) -> float:
    """Return the probability of an integer below -2^(bits-1), or of 2^(bits-1) and above; `law` as above."""
    half, bound = len(law) // 2, 1 << bits - 1
    return float(law[: max(0, half - bound)].sum() + law[half + bound :].sum())


def sum_of(law: np.ndarray, payloads: int) -> np.ndarray:
    """Return the law of the sum of independent integers, by convolutions; both laws as in `sum_bits`."""
    total, power = np.ones(1), law
    while payloads:
        if payloads & 1:
            total = np.convolve(total, power)
        payloads >>= 1
        power = np.convolve(power, power) if payloads else power
    return total


def discrete_gaussian(deviation: float) -> np.ndarray:
    """Return the law of integers k in proportion to exp(-k² / 2σ²), as in `sum_bits`, up to 10 deviations σ.

    It is narrower than the law of rounded normal numbers: with σ = 1 it deviates by 1.000, and they by 1.041.
    """
    half = math.ceil(10 * deviation)
    law = np.exp(-0.5 * (np.arange(-half, half + 1) / deviation) ** 2)
    return law / law.sum()
