"""Refusals: every one names a size that does work."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes
from pdcode.util.errors import InputError

FAMILIES = list(codes.FAMILIES)
SIZE = re.compile(r"workers = (\d+), blocks = (\d+), weight = (\d+)")


@pytest.mark.parametrize("family", FAMILIES)
@given(st.integers(1, 300), st.integers(1, 70), st.one_of(st.none(), st.integers(1, 80)))
def test_the_size_that_a_refusal_names_does_work(family, n, k, w):
    try:
        code = codes.design(family, n, k, w)
    except InputError as error:
        text = str(error)
        assert "\n" not in text
        assert text.startswith(f"workers = {n}, blocks = {k}")
        assert w is None or f"weight = {w}: " in text
        workers, blocks, weight = map(int, SIZE.search(text.split("nearest: ")[1]).groups())
        near = codes.design(family, workers, blocks, weight)
        assert (len(near), near.blocks, near.weight) == (workers, blocks, weight)
    else:
        assert len(code) == n
        assert code.blocks == k
        assert w in (None, code.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("steiner", 16, 5), "workers = 16, blocks = 5: there is no such steiner code; nearest: "),
        (("steiner", 17, 6), "nearest: workers = 16, blocks = 6, weight = 3"),
        (("tremain", 36, 15, 4), "workers = 36, blocks = 15, weight = 4: there is no such tremain code; "),
        (("dk", 13, 4), "nearest: workers = 12, blocks = 4, weight = 2"),
        (("graph", 4, 5), "nearest: workers = 5, blocks = 5, weight = 2"),
        (("hadamard", 92, 92), "nearest: workers = 92, blocks = 96, weight = 96"),
        (("net", 8, 18, 4), "nearest: workers = 8, blocks = 18, weight = 2"),
        (("net", 9, 4, 4), "nearest: workers = 4, blocks = 4, weight = 4"),
        (("repetition", 10, 4), "nearest: workers = 8, blocks = 4, weight = 1"),
        (("pairs", 3, 1), "nearest: workers = 3, blocks = 2, weight = 2"),
        (
            ("random", 3, 4, 5),
            "workers = 3, blocks = 4, weight = 5: there is no such random code, its weight is above "
            "the number of blocks; nearest: ",
        ),
        (("optimized", 130, 65), "nearest: workers = 130, blocks = 64, weight = 64"),
        (("fountain", 3, 4), "family: expected one of uncoded"),
        (("net", 0, 4), "workers = 0: not a positive whole number"),
        (("net", 4, 4.0), "blocks = 4.0: not a positive whole number"),
        (("net", 4, 4, 4, -1), "seed = -1: not a whole number"),
        (("auto", 4, 4, 0), "weight = 0: not a positive whole number"),
    ],
)
def test_refusals_name_what_is_wrong(arguments, message):
    with pytest.raises(InputError) as error:
        codes.design(*arguments)
    assert message in str(error.value)


def test_options_of_other_families():
    with pytest.raises(InputError, match="dither = True: not an option of the pairs code"):
        codes.design("pairs", 8, 4, dither=True)
    with pytest.raises(InputError, match="dither = True: not an option of the auto code"):
        codes.design("auto", 8, 4, dither=True)
    with pytest.raises(InputError, match="dither = 'yes': neither true nor false"):
        codes.design("net", 8, 4, dither="yes")
    with pytest.raises(InputError, match=r"dithered = .*: not a list of \[seed, epoch\] pairs"):
        codes.design("net", 8, 4, 2, dithered=[[2**63, 0]])
    with pytest.raises(InputError, match=r"dithered = \[1\]: not a list of \[seed, epoch\] pairs"):
        codes.design("net", 8, 4, dithered=[1])
