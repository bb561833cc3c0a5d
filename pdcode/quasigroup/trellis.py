"""Quasi group codes of any length that a trellis decodes: convolutional codes over Z_m.

Symbols sent after input u_t are Σ_i taps[j, i] u_(t-i) modulo m, one for each row j of the taps. Codewords
of all inputs are a group code with a banded generator. Inputs with a law of their own make it a quasi group
code: its sums are codewords of the sums of inputs, with the law of these. The decoder knows that law; with
the uniform one it decodes the group code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .laws import Law, log_likelihoods

MOST_BRANCHES = 1 << 16  # of a trellis: m^(span + 1)
PATHS = 6  # symbols of the error events that `bound` counts in full


@dataclass(frozen=True)
class TrellisCode:
    """A convolutional code over Z_m, ended by zeros.

    Attributes
    ----------
    modulus : int
        m.
    taps : ndarray of int, shape (uses, span + 1)
        A row for each symbol sent after an input; columns are for the input, and for inputs before it. The
        code is systematic if a row is 1, 0, 0 ….
    """

    modulus: int
    taps: np.ndarray

    @classmethod
    def designed(
        cls, modulus: int, uses: int, span: int, law: Law, noise: Law, seed: int, draws: int = 200
    ) -> TrellisCode:
        """Return the code of the least `bound` among random taps, and the systematic repetition code."""
        drawn = np.random.default_rng(seed).integers(0, modulus, (draws, uses, span + 1))
        drawn[0] = np.eye(1, span + 1, dtype=np.int64)
        codes = [cls(modulus, taps) for taps in drawn]
        return min(codes, key=lambda code: code.bound(law, noise))

    @property
    def span(self) -> int:
        """Number of earlier inputs on which a symbol depends."""
        return self.taps.shape[1] - 1

    def generator(self, length: int) -> np.ndarray:
        """Return the generator for `length` inputs, shape (length, (length + span) · uses)."""
        impulses: np.ndarray = self.encode(np.eye(length, dtype=np.int64))
        return impulses.reshape(length, -1)

    def encode(self, inputs: np.ndarray) -> np.ndarray:
        """Return codewords.

        Parameters
        ----------
        inputs : ndarray of int, shape (words, length)

        Returns
        -------
        ndarray of int64, shape (words, length + span, uses)
        """
        padded = np.pad(inputs, ((0, 0), (self.span, self.span)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.span + 1, axis=1)[..., ::-1]
        words: np.ndarray = windows @ self.taps.T % self.modulus
        return words

    def decode(self, received: np.ndarray, noise: Law, law: Law) -> np.ndarray:
        """Return the most probable inputs, by the Viterbi algorithm.

        Parameters
        ----------
        received : ndarray of int, shape (words, length + span, uses)
            Codewords plus noise, modulo m.
        noise, law : ndarray, shape (m,)
            Laws of a symbol of the noise, and of an input.

        Returns
        -------
        ndarray of int64, shape (words, length)
        """
        words, steps, _ = received.shape
        m, states = self.modulus, self.modulus**self.span
        digits = np.indices((m,) * (self.span + 1)).reshape(self.span + 1, -1)  # the input first
        symbols = self.taps @ digits % m
        prior = np.log(np.maximum(law, 1e-43)).astype(np.float32)[digits[0]]
        ending = np.where(digits[0] == 0, 0, -np.inf).astype(np.float32)
        scores = np.full((words, states), -np.inf, np.float32)
        scores[:, 0] = 0
        forgotten = np.empty((steps, words, states), np.int32)  # best input that leaves the memory
        for step in range(steps):
            seen = log_likelihoods(received[:, step], noise)
            branches = prior + sum(seen[:, use, row] for use, row in enumerate(symbols))
            if step >= steps - self.span:
                branches = branches - prior + ending
            paths = (branches.reshape(words, m, states) + scores[:, None]).reshape(words, states, m)
            forgotten[step] = paths.argmax(axis=2)
            scores = paths.max(axis=2)
        found = np.empty((words, steps), np.int64)
        state, every = np.zeros(words, np.int64), np.arange(words)
        for step in reversed(range(steps)):
            found[:, step] = forgotten[step, every, state]
            state = (state * m + found[:, step]) % states
        return found[:, self.span :]

    def bound(self, law: Law, noise: Law) -> float:
        """Return a bound on the probability that an error event begins at an input.

        The union bound with Bhattacharyya's coefficients,
        Σ Π_t Σ_u √(P(u) P(u + d_t)) Π_j Σ_z √(N(z) N(z - c_tj)), over differences d of inputs and c of their
        codewords; events of more than `PATHS` symbols and the zeros after them count by their beginning.
        """
        m, states = self.modulus, self.modulus**self.span
        alike_inputs, alike_words = (_overlaps(each) for each in (law, noise))
        digits = np.indices((m,) * (self.span + 1)).reshape(self.span + 1, -1)
        weights = alike_inputs[digits[0]] * alike_words[self.taps @ digits % m].prod(axis=0)
        steps = weights.reshape(m, states)
        events = np.zeros(states)
        begun = steps[1:, 0]
        if not self.span:
            return float(begun.sum())
        events[np.arange(1, m) * (states // m)] = begun
        total = 0.0
        for _ in range(PATHS + self.span):
            events = (steps * events).reshape(states, m).sum(axis=1)
            total, events[0] = total + float(events[0]), 0.0
        return total + float(events.sum())


def _overlaps(law: Law) -> np.ndarray:
    """Return Σ_u √(P(u) P(u + d)) for d = 0 … m - 1."""
    root = np.sqrt(law)
    return np.array([root @ np.roll(root, -difference) for difference in range(len(law))])
