"""Intervals, order and ties of the finalists; the table that is printed."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from pdcode.config import load as configfile
from pdcode.studies import plan_table as report
from pdcode.studies import ranking
from pdcode.studies.halving import Rung, RungResult
from pdcode.studies.ranking import Interval, Row, geometric_interval, student_interval
from pdcode.studies.search_space import DRAWN, OWN, Candidate
from pdcode.studies.trial import Outcome, Score, score

CONFIG = configfile.resolve({}, ["stop.loss=0.3"])


def candidate(name: str, multiple: float = 1.0) -> Candidate:
    return Candidate(name, multiple, CONFIG)


def outcome(seconds: float, ended_s: float | None = None, **more: float) -> Outcome:
    return Outcome(seconds, seconds if ended_s is None else ended_s, **{"value": 0.2, **more})


def missed(value: float) -> Outcome:
    return outcome(math.inf, 8.0, value=value)


def rank(**results: list[Outcome]) -> list[Row]:
    return ranking.rank([candidate(name) for name in results], list(results.values()))


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
    few, many = outcome(1.0, updates=100, bytes_down=20), outcome(2.0, updates=400, bytes_down=20, wasted=0.1)
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
    first, _ = rank(yours=[outcome(s) for s in (1.0, 10.0, 100.0)], b=[outcome(s) for s in (0.5, 5.0, 50.0)])
    assert first.candidate.name == "b"
    ratio = first.speedup.ratio
    assert (ratio.low, ratio.mean, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert first.time.low < 1 < 100 < first.time.high * 10


def test_rows_are_ordered_by_targets_reached_then_by_time_then_by_value():
    rows = rank(
        quick=[outcome(1.0), missed(0.2)], yours=[outcome(4.0), outcome(5.0)], never=[missed(0.3)] * 2,
        nearly=[missed(0.2)] * 2, good=[outcome(3.0)] * 2,
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
    (first, _) = rank(yours=[missed(0.5)] * 2, b=[outcome(2.0)] * 2)
    assert (first.speedup.bound, first.speedup.ratio.mean) == ("<", pytest.approx(0.25))


def test_multiples_of_the_oracles_time_are_of_the_whole_descents():
    (row,) = rank(yours=[outcome(1.9, 2.0, oracle_s=1.0), outcome(9.0, oracle_s=3.0)])
    assert row.oracle == pytest.approx(2.5)
    for unknown in (outcome(2.0), outcome(2.0, oracle_s=0.0), outcome(math.inf, 9.0, oracle_s=1.0)):
        assert math.isnan(rank(yours=[outcome(2.0, oracle_s=1.0), unknown])[0].oracle)


def test_the_score_of_several_seeds():
    whole, some = score([outcome(1.0), outcome(3.0)], 2), score([outcome(1.0), missed(0.4)], 2)
    assert (whole.seconds, whole.value) == (2.0, pytest.approx(0.2))
    assert (some.seconds, some.value) == (math.inf, pytest.approx(0.3))
    assert score([outcome(1.0)], 2).seconds == math.inf  # it was cut off
    diverged = score([missed(math.nan)], 1)
    assert sorted([diverged, some, whole], key=lambda each: each.key) == [whole, some, diverged]


def printed(rows: list[Row], left_out=(), width: int = 80) -> str:
    file = io.StringIO()
    seeds = range(1, 1 + len(rows[0].outcomes))
    report.show(rows, seeds, left_out, Console(file=file, width=width, highlight=False, markup=False))
    return file.getvalue()


GOLDEN = """\
           1                                 2
candidate  b                                 yours
time       748 ms                            1.50 s
           320 ms – 1.75 s                   641 ms – 3.50 s
of yours   0.50×                             1
           0.50 – 0.50×
× oracle   1.00×                             1.50×
updates    0                                 925
                                             656 – 1,304
up         0 B                               2.35 MB
down       0 B                               0 B
wasted     25.0 %                            0.0 %
           25.0 – 25.0 %                     0.0 – 0.0 %
scheme     net k=16 w=4 r=1, memory worker,  net k=16 w=4 r=1, memory worker,
           async, rate 0.1                   async, rate 0.1

Ranked by how many of the 2 descents (seeds 1 – 2) reached the target, then by
the geometric mean of their times. “of yours”: time over your own
configuration's under the same seed, with the same delays and batches. Updates,
bytes and wasted payloads: medians. The oracle knows all delays and balances as
many tasks perfectly. Under them 95 % intervals of the means (geometric but for
shares). The same descents chose number 1, which flatters its own times a
little. Number 1 is told from every other at 95 %.

Left out
  rung  time            candidate
     2  over 400 ms     uncoded all, rate ×2: net k=16 w=4 r=1, memory worker,
                        async, rate 0.1
     1  0.7 at the end  preset default, rate ×2: net k=16 w=4 r=1, memory
                        worker, async, rate 0.1
     1  diverged        drawn: net k=16 w=4 r=1, memory worker, async, rate 0.1

"""


def test_the_table():
    own = [
        outcome(1.4, updates=900, bytes_up=4_700_000, oracle_s=1.0),
        outcome(1.6, updates=950, oracle_s=1.0),
    ]
    good = [outcome(0.7, oracle_s=0.7, wasted=0.25), outcome(0.8, oracle_s=0.8, wasted=0.25)]
    rows = rank(yours=own, b=good)
    names = "preset default", DRAWN, "uncoded all"
    first, second, third = (candidate(name, 2.0) for name in names)
    rung_1 = [
        (rows[0].candidate, Score(math.inf, 0.1)),
        (first, Score(math.inf, 0.7)),
        (second, Score(math.inf, math.nan)),
    ]
    rung_2 = [
        (rows[0].candidate, Score(0.4, 0.1)),
        (third, Score(0.45, 0.5)),
        (rows[1].candidate, Score(math.inf, 0.6)),
    ]
    rungs = [Rung(number, 3, 1, 0.5, (1000 + number,)) for number in (1, 2)]
    text = printed(rows, [*map(RungResult, rungs, (rung_1, rung_2))])
    assert text == GOLDEN


def test_what_is_said_of_misses_ties_and_one_seed():
    rows = rank(yours=[outcome(1.4), missed(0.25)], b=[outcome(0.7), outcome(0.8)])
    text = printed(rows)
    assert "> 3.35 s" in text  # √(1.4 · 8)
    assert "1 of 2: 0.225" in text
    text = printed(rank(yours=[outcome(1.4)] * 2, b=[outcome(1.4)] * 2))
    assert "These seeds do not tell number 2 from number 1 at 95 %." in " ".join(text.split())
    assert "One seed gives no interval." in printed(rank(yours=[outcome(1.4)], b=[outcome(0.7)]))


def test_four_finalists_fit_in_80_columns_and_nothing_is_cut_off_in_fewer():
    wide = [
        outcome(s, updates=round(9000 * s), bytes_up=round(9.9e5 * s), bytes_down=2e9) for s in (1.1, 1.2)
    ]
    rows = rank(yours=wide, a=wide, b=wide, c=wide)
    assert max(map(len, printed(rows).splitlines())) <= 80
    narrow, broad = ("".join(printed(rows, width=width).split()) for width in (20, 200))
    assert sorted(narrow) == sorted(broad)
