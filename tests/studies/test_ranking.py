"""Intervals, order and ties of the finalists; the table that is printed."""

import io
import math
import re

import pytest
from rich.console import Console

from pdcode.config import load as configfile
from pdcode.studies import ranking, results_table
from pdcode.studies.candidate import DRAWN, OWN, Candidate
from pdcode.studies.goal import Goal
from pdcode.studies.halving import Rung, RungResult
from pdcode.studies.measurement import Measured
from pdcode.studies.ranking import Interval, Row, geometric_interval, student_interval

CONFIG, GOAL = configfile.resolve({}, ["memory.kind=worker", "stop.loss=0.3"]), Goal("loss", 0.3)


def candidate(name: str, multiple: float = 1.0) -> Candidate:
    return Candidate(name, CONFIG, multiple)


def run(seconds: float, stop_s: float | None = None, **more: float) -> Measured:
    figures = {"loss": 0.2, "wasted": 0.0, **more}
    return Measured(seconds=seconds, stop_s=seconds if stop_s is None else stop_s, **figures)


def missed(value: float) -> Measured:
    return run(math.inf, 8.0, loss=value)


def rank(**results: list[Measured]) -> list[Row]:
    made = [candidate(name) for name in results]
    return ranking.rank(made, list(results.values()), GOAL, [*results].index(OWN))


def test_intervals_by_hand():
    # t(0.975, 2) = 4.302653; ln: 0, 1, 2; mean 1, deviation 1
    half = 4.302653 / math.sqrt(3)
    found = geometric_interval([1.0, math.e, math.e**2])
    expected = math.e, math.exp(1 - half), math.exp(1 + half)
    assert (found.mean, found.low, found.high) == pytest.approx(expected, rel=1e-6)
    found = student_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half), rel=1e-6)
    for interval in (student_interval, geometric_interval):
        assert interval([2.0, 2.0]) == Interval(*[pytest.approx(2.0)] * 3)
        assert interval([5.0]).mean == pytest.approx(5.0)
        assert not interval([5.0]).known
    for values in ([], [1.0, math.inf], [1.0, 0.0]):
        assert math.isnan(geometric_interval(values).mean)


def test_all_that_is_counted_has_its_interval():
    few, many = run(1.0, updates=100, bytes_down=20), run(2.0, updates=400, bytes_down=20, wasted=0.1)
    (row,) = rank(yours=[few, many])
    half = 12.7062047 * math.log(4) / 2  # t(0.975, 1) times deviation over √2, of two logarithms
    found = row.interval("updates")
    expected = 200, 200 * math.exp(-half), 200 * math.exp(half)
    assert (found.mean, found.low, found.high) == pytest.approx(expected, rel=1e-6)
    assert row.interval("bytes_down") == Interval(*[pytest.approx(20)] * 3)
    assert not row.interval("bytes_up").known  # 0 has no logarithm
    assert row.median("updates") == 250
    share = 0.05 * (1 + 12.7062047)
    assert (row.wasted.low, row.wasted.high) == (0.0, pytest.approx(share, rel=1e-6))  # not below 0
    (row,) = rank(yours=[few, missed(0.3)])
    assert not row.interval("updates").known  # it would have taken more
    assert not row.time.known


def test_times_are_compared_seed_by_seed():
    first, _ = rank(yours=[run(s) for s in (1.0, 10.0, 100.0)], b=[run(s) for s in (0.5, 5.0, 50.0)])
    assert first.candidate.name == "b"
    ratio = first.speedup.ratio
    assert (ratio.low, ratio.mean, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert first.time.low < 1 < 100 < first.time.high * 10


def test_rows_are_ordered_by_targets_reached_then_by_time_then_by_value():
    rows = rank(
        quick=[run(1.0), missed(0.2)], yours=[run(4.0), run(5.0)], never=[missed(0.3)] * 2,
        nearly=[missed(0.2)] * 2, good=[run(3.0)] * 2,
    )  # fmt: skip
    assert [row.candidate.name for row in rows] == ["good", OWN, "quick", "nearly", "never"]
    assert [row.missed for row in rows] == [0, 0, 1, 2, 2]
    quick = rows[2]
    assert quick.time.mean == pytest.approx(math.sqrt(8))
    assert quick.speedup.bound == ">"  # √(1/4 · 8/5): it would have taken longer than 8
    assert quick.speedup.ratio.mean == pytest.approx(math.sqrt(0.4))
    # ln ratios of yours to good: ln 4/3, ln 5/3; their interval by t(0.975, 1) = 12.7 holds 0. Those of
    # never and nearly are the same each time, and above 1.
    assert ranking.tied(rows) == [2, 3]


def test_ties_where_nobody_or_the_own_one_missed_the_target():
    rows = rank(yours=[missed(0.5)] * 2, b=[missed(0.4)] * 2)
    assert [row.candidate.name for row in rows] == ["b", OWN]
    assert math.isnan(rows[0].speedup.ratio.mean)
    assert ranking.tied(rows) == [2]
    (first, _) = rank(yours=[missed(0.5)] * 2, b=[run(2.0)] * 2)
    assert (first.speedup.bound, first.speedup.ratio.mean) == ("<", pytest.approx(0.25))


def test_multiples_of_the_oracles_time_are_of_the_whole_descents():
    (row,) = rank(yours=[run(1.9, 2.0, oracle_s=1.0), run(9.0, oracle_s=3.0)])
    assert row.oracle == pytest.approx(2.5)
    for unknown in (run(2.0), run(2.0, oracle_s=0.0), run(math.inf, 9.0, oracle_s=1.0)):
        assert math.isnan(rank(yours=[run(2.0, oracle_s=1.0), unknown])[0].oracle)


def printed(rows: list[Row], left_out=(), width: int = 80) -> str:
    file = io.StringIO()
    seeds = range(1, 1 + len(rows[0].runs))
    results_table.show_plan(
        rows, seeds, left_out, Console(file=file, width=width, highlight=False, markup=False)
    )
    return file.getvalue()


GOLDEN = """\
             1                                 2
candidate    b                                 yours
time         748 ms                            1.50 s
             320 ms – 1.75 s                   641 ms – 3.50 s
of yours     0.50×                             1.00×
× oracle     1.00×                             1.50×
updates      0                                 925
                                               656 – 1,304
up           0 B                               2.35 MB
down         0 B                               0 B
wasted       25.0 %                            0.0 %
             25.0 – 25.0 %                     0.0 – 0.0 %
loss         0.2                               0.2
rank 0 done  748 ms                            1.50 s
scheme       net k=16 w=4 r=1, memory worker,  net k=16 w=4 r=1, memory worker,
             async, rate 0.1                   async, rate 0.1

Ranked by how many of the 2 runs reached the target, then by the geometric mean
of the times; seeds 1 – 2, with the same delays and mini-batches for all. With
95 % intervals. “of yours”: geometric mean of the ratio to your own
configuration, seed by seed. × oracle: ratio to the time in which perfectly
balanced workers that know all delays would have done the same tasks. Other
figures are medians. wasted: payloads that were not used; loss, accuracy: the
last ones; rank 0 done: time of the stop. Number 1 is faster than every other at
95 %. Number 1 was chosen before, by runs under other seeds.

Left out
  rung  time         candidate
     2  over 400 ms  uncoded all, rate ×2: net k=16 w=4 r=1, memory worker,
                     async, rate 0.1
  After rung 1: preset default, rate ×2 and drawn, rate ×2.

"""


def test_the_table():
    own = [run(1.4, updates=900, bytes_up=4_700_000, oracle_s=1.0), run(1.6, updates=950, oracle_s=1.0)]
    good = [run(0.7, oracle_s=0.7, wasted=0.25), run(0.8, oracle_s=0.8, wasted=0.25)]
    rows = rank(yours=own, b=good)
    names = "preset default", DRAWN, "uncoded all"
    first, second, third = (candidate(name, 2.0) for name in names)
    rung_1 = [(rows[0].candidate, missed(0.1)), (first, missed(0.7)), (second, run(math.inf, loss=math.nan))]
    rung_2 = [
        (rows[0].candidate, run(0.4, loss=0.1)),
        (third, run(0.45, loss=0.5)),
        (rows[1].candidate, missed(0.6)),
    ]
    rungs = [Rung(number, 3, 1, 0.5, (1000 + number,)) for number in (1, 2)]
    text = printed(rows, [*map(RungResult, rungs, (rung_1, rung_2))])
    assert text == GOLDEN


def test_what_is_said_of_misses_ties_and_one_seed():
    rows = rank(yours=[run(1.4), missed(0.25)], b=[run(0.7), run(0.8)])
    text = printed(rows)
    assert "1 of 2 in 3.35 s" in text  # √(1.4 · 8)
    assert re.search(r"loss +0\.2 +0\.225\n", text)
    text = printed(rank(yours=[run(1.4)] * 2, b=[run(1.4)] * 2))
    assert "These seeds do not distinguish number 2 from number 1 at 95 %." in " ".join(text.split())
    assert "One seed gives no interval." in printed(rank(yours=[run(1.4)], b=[run(0.7)]))


def test_four_finalists_fit_in_80_columns_and_nothing_is_cut_off_in_fewer():
    wide = [run(s, updates=round(9000 * s), bytes_up=round(9.9e5 * s), bytes_down=2e9) for s in (1.1, 1.2)]
    rows = rank(yours=wide, a=wide, b=wide, c=wide)
    assert max(map(len, printed(rows).splitlines())) <= 80
    narrow, broad = ("".join(printed(rows, width=width).split()) for width in (20, 200))
    assert sorted(narrow) == sorted(broad)
