"""Lagrange codes over parts of data: thresholds, liars, and what those who collude learn."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
import pytest
import scipy.stats

from pdcode.encoded import field_code as fields
from pdcode.encoded.data_blocks import DataBlockCode, FieldLagrangeCode, RealLagrangeCode, ReplicationCode
from pdcode.encoded.field_code import PRIMES

M61, SIZE = PRIMES[61], 3
NOISE = 1e-12  # of results of real numbers here


def powers(values: np.ndarray, degree: int, prime: int | None) -> np.ndarray:
    """The polynomial of the tests: each number to a power."""
    if prime is None:
        return values**degree
    whole = np.array([pow(int(value), degree, prime) for value in values.ravel()], np.uint64)
    return whole.reshape(values.shape)


class Setting:
    """Parts, what workers compute of coded ones, and the sum that is wanted."""

    def __init__(self, code: DataBlockCode, degree: int, parts: int, prime: int | None) -> None:
        random, held = np.random.default_rng(4), code.generator.shape[1]
        if prime is None:
            data = random.standard_normal((held, SIZE))
            coded = code.generator @ data
            self.sum = powers(data[:parts], degree, prime).sum(axis=0)
        else:
            data = random.integers(0, prime, (held, SIZE), np.uint64)
            coded = fields.product(code.generator, data, prime)
            whole = powers(data[:parts], degree, prime).astype(object)
            self.sum = (whole.sum(axis=0) % prime).astype(np.uint64)
        self.code, self.prime, self.payloads = code, prime, powers(coded, degree, prime)

    def decode(self, workers: Sequence[int], payloads: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """The decoded sum, and who is said to lie."""
        wrong = self.code.locate(workers, payloads, NOISE * np.abs(self.payloads).max())
        assert wrong is not None
        kept = [place for place in range(len(workers)) if place not in wrong]
        found = self.code.decode([workers[place] for place in kept], payloads[kept])
        return found, [workers[place] for place in wrong]

    def expect(self, found: np.ndarray) -> None:
        if self.prime is None:
            np.testing.assert_allclose(found, self.sum, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, self.sum)


def setting(workers: int, parts: int, liars: int, colluders: int, degree: int, prime: int | None) -> Setting:
    code: DataBlockCode
    if colluders == 0 and workers < parts * degree - 1:
        code = ReplicationCode(workers, parts, liars, prime)
    elif prime is None:
        code = RealLagrangeCode(workers, parts, liars, degree, 1)
    else:
        code = FieldLagrangeCode(workers, parts, liars, colluders, degree, prime)
    return Setting(code, degree, parts, prime)


CODES = [  # workers, parts, liars, colluders, degree
    (3, 1, 0, 0, 2), (4, 2, 0, 0, 2), (6, 2, 1, 0, 2), (7, 2, 0, 1, 2), (8, 3, 0, 0, 3), (9, 1, 1, 2, 2),
    (9, 3, 2, 0, 2), (10, 4, 1, 0, 2), (10, 2, 0, 2, 3), (7, 3, 0, 0, 4), (10, 3, 1, 0, 5), (10, 5, 0, 0, 2),
]  # fmt: skip


def cases() -> Iterator[tuple[int, int, int, int, int, int | None]]:
    for code in CODES:
        for prime in (PRIMES[31], M61, None):
            if prime is not None or not code[3]:
                yield *code, prime


@pytest.mark.parametrize("numbers", list(cases()))
def test_all_sets_of_as_many_as_needed_decode_and_none_of_one_fewer(numbers):
    made = setting(*numbers)
    workers, parts, liars, colluders, degree, _ = numbers
    copied = isinstance(made.code, ReplicationCode)
    if copied:
        assert made.code.needed == workers - workers // parts + 1 + 2 * liars
    else:
        assert made.code.needed == (parts + colluders - 1) * degree + 2 * liars + 1
    for rows in combinations(range(workers), made.code.needed):
        assert made.code.captured(rows) == 1
        found, wrong = made.decode(rows, made.payloads[[*rows]])
        made.expect(found)
        assert not wrong
    fewer = [made.code.captured(rows) for rows in combinations(range(workers), made.code.needed - 1)]
    assert min(fewer) < 1
    if not copied:
        assert max(fewer) < 1


@pytest.mark.parametrize("prime", [M61, None])
def test_forty_workers(prime: int | None) -> None:
    made, random = setting(40, 9, 3, 0, 2, prime), np.random.default_rng(1)
    for _ in range(40):
        rows = random.choice(40, made.code.needed, replace=False).tolist()
        liars = random.choice(rows, 3, replace=False)
        sent = made.payloads.copy()
        sent[liars] = lies("random", made, liars)
        found, wrong = made.decode(rows, sent[rows])
        assert sorted(wrong) == sorted(liars.tolist())
        if prime is not None:  # real numbers lose digits where random workers are missing
            made.expect(found)
    assert made.code.captured(range(made.code.needed - 1)) < 1


def lies(how: str, made: Setting, liars: Sequence[int] | np.ndarray) -> np.ndarray:
    """What liars send."""
    random, shape = np.random.default_rng(8), (len(liars), SIZE)
    if how == "random":
        return (
            random.standard_normal(shape)
            if made.prime is None
            else random.integers(0, made.prime, shape, np.uint64)
        )
    if how == "constant":
        return np.full(shape, 1, made.payloads.dtype)
    other = made.payloads[list(liars)]  # of other data: in agreement with each other
    return 2 * other if made.prime is None else (other * np.uint64(2)) % np.uint64(made.prime)


@pytest.mark.parametrize("how", ["random", "constant", "colluding"])
@pytest.mark.parametrize("prime", [PRIMES[31], M61, None])
@pytest.mark.parametrize("numbers", [(7, 2, 1, 0, 2), (9, 2, 2, 0, 2), (8, 2, 1, 0, 5), (9, 1, 2, 1, 2)])
def test_errors_of_any_kind_are_located(numbers, prime, how):
    if prime is None and numbers[3]:
        numbers = (9, 3, 2, 0, 2)  # real numbers hide nothing
    made = setting(*numbers, prime)
    for count in range(1, numbers[2] + 1):
        for liars in combinations(range(numbers[0]), count):
            sent = made.payloads.copy()
            sent[[*liars]] = lies(how, made, liars)
            for rows in (range(numbers[0]), range(numbers[0] - made.code.needed, numbers[0])):
                if made.code.captured(rows) == 1:
                    found, wrong = made.decode(rows, sent[[*rows]])
                    assert wrong == [liar for liar in liars if liar in rows]
                    made.expect(found)


@pytest.mark.parametrize(("parts", "colluders", "prime"), [(1, 1, 7), (2, 1, 11), (1, 2, 11), (2, 2, 13)])
def test_all_shares_of_colluders_are_equally_likely(parts: int, colluders: int, prime: int) -> None:
    """For each set of T workers, and whatever the data are, over all random numbers."""
    workers = prime - 1 - parts - colluders
    words = FieldLagrangeCode(workers, parts, 0, colluders, 1, prime).generator
    pads = np.array(list(product(range(prime), repeat=colluders)), np.uint64).T
    for data in product((0, 1, prime - 1), repeat=parts):
        held = np.concatenate([np.tile(np.array(data, np.uint64)[:, None], pads.shape[1]), pads])
        shares = fields.product(words, held, prime)
        for who in combinations(range(workers), colluders):
            seen = Counter(map(tuple, shares[[*who]].T.tolist()))
            assert set(seen.values()) == {1}
            assert len(seen) == prime**colluders
        one_more = shares[: colluders + 1]
        assert len(set(map(tuple, one_more.T.tolist()))) < prime ** len(one_more)  # which tells something


@pytest.mark.parametrize("colluders", [1, 2])
def test_shares_in_a_large_field_pass_a_chi_squared_test(colluders: int) -> None:
    words, count = FieldLagrangeCode(9, 2, 0, colluders, 2, M61).generator, 20_000
    pads = fields.uniform(colluders * count, M61, np.random.default_rng(7).bytes).reshape(colluders, count)
    held = np.concatenate([np.full((2, count), 12345, np.uint64), pads])
    shares = fields.product(words, held, M61)
    for who in combinations(range(9), colluders):
        cells = (shares[[*who]] >> np.uint64(58)).T @ (8 ** np.arange(colluders)).astype(np.uint64)
        seen = np.bincount(cells.astype(int), minlength=8**colluders)
        assert scipy.stats.chisquare(seen).pvalue > 1e-4


@pytest.mark.parametrize("prime", [M61, None])
def test_copies_that_contradict_each_other_too_often_are_not_decoded(prime: int | None) -> None:
    made = setting(8, 2, 1, 0, 5, prime)
    assert isinstance(made.code, ReplicationCode)
    sent = made.payloads.copy()
    sent[[0, 2]] = 5  # two liars, of the one that is allowed: each part has four copies
    assert made.code.locate(range(8), sent, NOISE) is None
    sent[1] = 7
    assert made.code.locate([0, 1, 4, 6, 3, 5], sent[[0, 1, 4, 6, 3, 5]], NOISE) is None
