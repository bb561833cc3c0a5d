"""Sizes that are claimed: refused before anything is computed or allocated."""

import pytest
from outcomes import error_line

from pdcode import codes
from pdcode.__main__ import main
from pdcode.codes import summary
from pdcode.util.errors import InputError

LARGEST = 2**24


@pytest.mark.parametrize("family", [*codes.FAMILIES, "auto"])
@pytest.mark.parametrize("size", [(16, 10**20), (10**20, 16), (2**31, 2**31)])
def test_more_rows_or_blocks_than_any_code_has(family, size):
    with pytest.raises(InputError, match=rf"^(workers|blocks) = {max(size)}: more than {LARGEST}$"):
        codes.design(family, *size, 4)


@pytest.mark.parametrize("family", codes.FAMILIES)
@pytest.mark.parametrize("weight", [17, 2**31 - 1, 10**20])
def test_a_weight_above_the_number_of_blocks(family, weight):
    with pytest.raises(InputError, match=rf"weight = {weight}: .* its weight is above the number of blocks"):
        codes.design(family, 16, 16, weight)


def test_an_upper_bound_on_the_weight_may_be_any():
    assert codes.design("auto", 32, 16, 10**20).weight == codes.design("auto", 32, 16).weight


@pytest.mark.parametrize(
    ("family", "size", "options", "words"),
    [
        (
            "hadamard",
            (16, 2**20),
            {},
            "workers = 16, blocks = 1048576, weight = 1048576: this code would need ",
        ),
        ("kerdock", (16, 2**20), {}, "weight = 1048576: this code would need "),
        ("energy", (2**20, 2**20), {}, "workers = 1048576, blocks = 1048576: this code would need "),
        ("random", (2**20, 2**20), {"balanced": True}, "balanced = true: a balanced code of 1048576 rows"),
        ("optimized", (10**7, 2), {"processes": 10**9}, "workers = 10000000: the search would need "),
        (
            "optimized",
            (7, 3),
            {"processes": 10**9},
            "processes = 1000000000: not a whole number from 1 to 1024",
        ),
        (
            "graph",
            (2**20, 2**20),
            {"degree": 2**19},
            "degree = 524288: a graph on 1048576 vertices would need ",
        ),
        ("graph", (2**24, 2**24), {"degree": 10**20}, "nearest: 16777214 or 16777215"),
        ("graph", (9, 9), {"degree": 10**20}, "nearest: 6 or 8"),
        ("optimized", (16, 999_999), {}, "nearest: workers = 16, blocks = 64, weight = 64"),
        ("kerdock", (16, 999_999), {}, "nearest: workers = 16, blocks = 256, weight = 256"),
        ("tremain", (16, LARGEST), {}, "there is no such tremain code"),
    ],
)
def test_options_and_families_that_need_much(family, size, options, words):
    with pytest.raises(InputError) as error:
        codes.design(family, *size, **options)
    assert words in str(error.value)


@pytest.mark.parametrize("family", ["dk", "e8"])
def test_few_rows_over_many_blocks_are_the_first_of_the_design(family):
    few, all_of_it = codes.design(family, 9, 16), codes.design(family, 240, 16)
    assert (few.matrix == all_of_it.matrix[:9]).all()
    assert len(codes.design(family, 8, 2**16)) == 8


def test_matrices_that_do_not_fit_are_not_measured(capsys):
    assert main(["codes", "design", "uncoded", "-n", "999999", "-k", "999999"]) == 2
    start = "pdcode: 999999 rows over 999999 blocks: measuring the code would need "
    assert error_line(capsys).startswith(start)


def test_frame_bounds_of_many_blocks_need_no_dense_matrix():
    code = codes.design("net", 2**17, 2**17, 4)
    assert code.frame_bounds == pytest.approx((1, 1), abs=1e-12)


def test_orthonormal_rows_are_measured_without_sampling(monkeypatch):
    monkeypatch.setattr(summary.captured.projection, "orthogonalise", None)
    found = summary.quality(codes.design("net", 16, 16, 4))
    assert found.least_squares.mean == pytest.approx([q / 16 for q in range(17)], abs=1e-15)
    assert found.needed[2] == (16.0, 0.0)


def test_progress_is_printed_and_the_file_is_checked_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pdcode.cli.codes.LARGE", 100)
    path = tmp_path / "code.h5"
    command = ["codes", "design", "net", "-n", "32", "-k", "16", "-w", "4"]
    assert main([*command, "-o", str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == f"code: {path}"
    said = captured.err.splitlines()
    assert said[0] == "measuring coherence and frame bounds"
    assert "measuring captured energy: 200 of 200 orders of arrival" in said
