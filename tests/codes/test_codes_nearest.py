"""Refusals: every one names sizes that do work."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdcode import codes
from pdcode.util.errors import InputError

FAMILIES = [name for name in codes.FAMILIES if name not in ("optimized", "energy")]
SIZE = re.compile(r"workers = (\d+), blocks = (\d+), weight = (\d+)")


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 70), st.one_of(st.none(), st.integers(1, 80)))
def test_sizes_that_a_refusal_names_do_work(family, n, k, w):
    try:
        code = codes.design(family, n, k, w)
    except InputError as error:
        text = str(error)
        assert "\n" not in text
        assert re.match(r"(workers|blocks|weight) = \d+: ", text)
        sizes = SIZE.findall(text.split("nearest: ")[1])
        assert sizes
        for size in sizes:
            workers, blocks, weight = map(int, size)
            assert (workers, blocks, weight) != (n, k, w)
            near = codes.design(family, workers, blocks, weight)
            assert (len(near), near.blocks, near.weight) == (workers, blocks, weight)
    else:
        assert len(code) == n
        assert code.blocks == k
        assert w in (None, code.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("steiner", 16, 5), "blocks = 5: no steiner code has as many; nearest: workers = 16, blocks = 6, "),
        (
            ("steiner", 17, 6),
            "workers = 17: the steiner code over 6 blocks has 16 rows; "
            "nearest: workers = 16, blocks = 6, weight = 3",
        ),
        (
            ("steiner", 28, 6),
            "nearest: workers = 16, blocks = 6, weight = 3; or workers = 28, blocks = 7, weight = 3",
        ),
        (("tremain", 36, 15, 4), "weight = 4: the tremain code over 15 blocks has weight 8; nearest"),
        (
            ("kerdock", 20, 8),
            "blocks = 8: no kerdock code has as many; nearest: workers = 12, blocks = 4, weight = 4; "
            "or workers = 20, blocks = 16, weight = 16",
        ),
        (("dk", 13, 4), "workers = 13: the dk code over 4 blocks has at most 12 rows; nearest: workers = 12"),
        (("e8", 8, 9), "nearest: workers = 8, blocks = 8, weight = 8; or workers = 8, blocks = 16, weight"),
        (
            ("hadamard", 92, 92),
            "workers = 92, blocks = 88, weight = 88; or workers = 92, blocks = 96, weight",
        ),
        (
            ("simplex-lines", 48, 9, 4),
            "the simplex-lines code over 9 blocks has weight 3; nearest: workers = 48",
        ),
        (
            ("graph", 4, 5),
            "the graph code over 5 blocks has at least 5 rows; nearest: workers = 5, blocks = 5",
        ),
        (
            ("net", 8, 18, 4),
            "blocks = 18: not a multiple of 4, as a net of weight 4 needs; "
            "nearest: workers = 8, blocks = 16, weight = 4; or workers = 8, blocks = 20, weight = 4; "
            "or workers = 8, blocks = 18, weight = 2",
        ),
        (("net", 8, 18, 3), "not a multiple of 4, as a net of weight 3 (sets of 4 blocks) needs; nearest: "),
        (
            ("net", 9, 4, 4),
            "workers = 9: a net of weight 4 over 4 blocks has at most 4 rows; "
            "nearest: workers = 4, blocks = 4, weight = 4; or workers = 9, blocks = 12, weight = 4; "
            "or workers = 9, blocks = 4, weight = 2",
        ),
        (
            ("repetition", 10, 4),
            "workers = 10: repetition needs a multiple of 4 blocks; "
            "nearest: workers = 8, blocks = 4, weight = 1; or workers = 12, blocks = 4, weight = 1",
        ),
        (("repetition", 8, 4, 2), "weight = 2: the repetition code has weight 1"),
        (("pairs", 3, 4), "workers = 3: pairs need a row a block for full rank; nearest: workers = 4"),
        (("pairs", 3, 1), "blocks = 1: pairs need at least 2 blocks"),
        (
            ("random", 3, 4, 5),
            "weight = 5: more than the 4 blocks; nearest: workers = 3, blocks = 4, weight = 4",
        ),
        (("fountain", 3, 4), "family = 'fountain': not one of uncoded"),
        (("net", 0, 4), "workers = 0: not a positive whole number"),
        (("net", 4, 4.0), "blocks = 4.0: not a positive whole number"),
        (("net", 4, 4, 4, -1), "seed = -1: not a whole number"),
        (("auto", 4, 4, 0), "weight = 0: not a positive whole number"),
    ],
)
def test_impossible_parameters_name_the_nearest(arguments, message):
    with pytest.raises(InputError) as error:
        codes.design(*arguments)
    assert message in str(error.value)


def test_options_of_other_families():
    with pytest.raises(InputError, match="dither = True: not an option of the pairs code"):
        codes.design("pairs", 8, 4, dither=True)
    with pytest.raises(InputError, match="dither = True: not an option of the auto code"):
        codes.design("auto", 8, 4, dither=True)
    with pytest.raises(InputError, match="dither = 'yes': not true or false"):
        codes.design("net", 8, 4, dither="yes")
    with pytest.raises(InputError, match=r"dithered = .*: not a list of \[seed, epoch\] pairs"):
        codes.design("net", 8, 4, 2, dithered=[[2**63, 0]])
    with pytest.raises(InputError, match=r"dithered = \[1\]: not a list of \[seed, epoch\] pairs"):
        codes.design("net", 8, 4, dithered=[1])
    with pytest.raises(InputError, match=r"whole = \[1, 2\]: not \[workers, blocks, weight\]"):
        codes.design("net", 8, 4, whole=[1, 2])
