"""Do short quasi group codes decode sums modulo 4 better than group codes and unstructured ones?

Noise (.1δ, .9δ, .1(1-δ), .9(1-δ)), two senders of half a bit a symbol each, random codes of n symbols,
decoders of the most probable sum. Prints the share of sums that are decoded wrongly.
"""

import argparse
import itertools
from pathlib import Path
from sys import path

import numpy as np

path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.quasigroup import QuasiGroupCode

Codes = tuple[QuasiGroupCode, QuasiGroupCode]


def drawn(kind: str, length: int, seed: int) -> Codes:
    """Return the codes of both senders, 2^(length / 2) codewords each."""
    half = length // 2
    binary = np.array([*itertools.product(range(2), repeat=half)])
    if kind == "unstructured":
        one = QuasiGroupCode.random(4, np.hstack([binary, 0 * binary]), length, seed)
        return one, QuasiGroupCode(4, np.hstack([0 * binary, binary]), one.generator, one.offset)
    whole = np.array([*itertools.product(range(4), repeat=half // 2)])
    code = QuasiGroupCode.random(4, binary if kind == "quasi group" else whole, length, seed)
    return code, code


def error(kind: str, length: int, noise: np.ndarray, codes: int, trials: int) -> float:
    """Return the share of sums decoded wrongly."""
    random, wrong = np.random.default_rng(0), 0
    for seed in range(codes):
        first, second = drawn(kind, length, seed)
        sums, law = first.sums(second)
        sent = sum(each.encode(random.integers(len(each.indices), size=trials)) for each in (first, second))
        received = (sent + random.choice(4, (trials, length), p=noise)) % 4
        found = sums.encode(sums.decode(received, noise, law)[:, 0])
        wrong += int((found != sent % 4).any(axis=1).sum())
    return wrong / codes / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    for length in (8,) if quick else (8, 12):
        for delta in (0.2,) if quick else (0.1, 0.2, 0.25, 0.4, 0.5):
            noise = np.array([0.1 * delta, 0.9 * delta, 0.1 * (1 - delta), 0.9 * (1 - delta)])
            for kind in ("quasi group", "group", "unstructured"):
                found = error(kind, length, noise, *((2, 5) if quick else (40, 50)))
                print(f"n = {length:2}, δ = {delta:4}: {kind:12} {found:.3f}", flush=True)


if __name__ == "__main__":
    main()
