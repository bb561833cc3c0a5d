"""Intervals, order and words of a plan's table."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from pdcode.config import load as configfile
from pdcode.planning import ranking, table
from pdcode.planning.halving import Ranking, Rung
from pdcode.planning.ranking import Interval, interval, share_interval
from pdcode.planning.space import DRAWN, OWN, Candidate
from pdcode.planning.trials import Outcome, Score, score

CONFIG = configfile.resolve({}, ["stop.loss=0.3"])


def candidate(name: str, multiple: float = 1.0) -> Candidate:
    return Candidate(name, multiple, CONFIG)


def outcome(seconds: float, ended_s: float | None = None, **more: float) -> Outcome:
    return Outcome(seconds, seconds, seconds if ended_s is None else ended_s, 0.2, **more)


def test_an_interval_by_hand():
    # ln: 0, 1, 2; mean 1, deviation 1, t(0.975, 2) = 4.302653
    found = interval([1.0, math.e, math.e**2])
    half = 4.302653 / math.sqrt(3)
    assert found.mean == pytest.approx(math.e)
    assert found.low == pytest.approx(math.exp(1 - half), rel=1e-6)
    assert found.high == pytest.approx(math.exp(1 + half), rel=1e-6)
    assert found.known
    assert interval([2.0, 2.0]) == Interval(pytest.approx(2.0), pytest.approx(2.0), pytest.approx(2.0))
    one = interval([5.0])
    assert one.mean == pytest.approx(5.0)
    assert not one.known
    assert math.isnan(interval([]).mean)
    assert math.isnan(interval([1.0, math.inf]).mean)
    assert math.isnan(interval([1.0, 0.0]).mean)


def test_an_interval_of_shares_by_hand():
    # mean 0.2, deviation 0.1, t(0.975, 2) = 4.302653; what is below 0 or above 1 is cut off
    half = 0.1 * 4.302653 / math.sqrt(3)
    found = share_interval([0.1, 0.2, 0.3])
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.0, 0.2 + half), rel=1e-6)
    found = share_interval([0.5, 0.6, 0.7])
    assert (found.low, found.high) == pytest.approx((0.6 - half, 0.6 + half), rel=1e-6)
    assert share_interval([0.9, 1.0]).high == 1.0
    assert share_interval([0.0, 0.0]) == Interval(0.0, 0.0, 0.0)
    assert not share_interval([0.3]).known


def test_all_that_is_counted_has_its_interval():
    def line(*outcomes: Outcome) -> ranking.Line:
        return ranking.rank([candidate(OWN)], [list(outcomes)])[0]

    few, many = outcome(1.0, updates=100, bytes_up=0, bytes_down=20), outcome(2.0, updates=400, bytes_down=20)
    both = line(few, many)
    half = 12.7062047 * math.log(4) / 2  # t(0.975, 1) times deviation over √2, of two logarithms
    found = both.between("updates")
    assert (found.mean, found.low, found.high) == pytest.approx(
        (200, 200 * math.exp(-half), 200 * math.exp(half)), rel=1e-6
    )
    assert both.between("bytes_down") == Interval(*[pytest.approx(20)] * 3)
    assert not both.between("bytes_up").known  # 0 has no logarithm
    assert both.wasted == Interval(0.0, 0.0, 0.0)
    assert not line(few).between("updates").known
    missed = line(few, outcome(math.inf, 9.0, updates=400, wasted=0.5))  # it would have taken more
    assert not missed.between("updates").known
    assert missed.wasted.known


def test_ratios_are_paired_by_seed():
    own = [outcome(1.0), outcome(10.0), outcome(100.0)]
    other = [outcome(0.5), outcome(5.0), outcome(50.0)]
    lines = ranking.rank([candidate(OWN), candidate("b")], [own, other])
    first = lines[0]
    assert first.candidate.name == "b"
    # the same half under every seed: sure, though times themselves differ by 100
    ratio = first.ratio.interval
    assert first.ratio.sign == ""
    assert (ratio.low, ratio.mean, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert first.time.low < 1 < 100 < first.time.high * 10
    assert ranking.alike(lines) == []


def test_the_order_is_by_how_often_the_goal_was_reached_and_then_by_time():
    own = [outcome(4.0), outcome(5.0)]
    quick = [outcome(1.0), outcome(math.inf, 8.0)]
    never = [outcome(math.inf, 8.0), outcome(math.inf, 8.0)]
    good = [outcome(3.0), outcome(3.0)]
    names = ["quick", OWN, "never", "good"]
    lines = ranking.rank([candidate(name) for name in names], [quick, own, never, good])
    assert [line.candidate.name for line in lines] == ["good", OWN, "quick", "never"]
    assert [line.missed for line in lines] == [0, 0, 1, 2]
    assert lines[2].time.mean == pytest.approx(math.sqrt(8))
    assert not lines[2].time.known
    # √(1/4 · 8/5): the second did not get there, so it is more
    assert lines[2].ratio.sign == ">"
    assert lines[2].ratio.interval.mean == pytest.approx(math.sqrt(0.4))
    # ln ratios of own to good: ln 4/3, ln 5/3; their interval by t(0.975, 1) = 12.7 holds 0. Those of never
    # are more than ln 8/3, twice, and those of quick ln 1/3 and ln 8/3.
    assert ranking.alike(lines) == [2, 3]


def test_those_that_never_get_there_are_ordered_by_where_they_would():
    def missed(estimate: float, value: float) -> Outcome:
        return Outcome(math.inf, estimate, 8.0, value)

    own, soon, late = [missed(math.inf, 0.5)] * 2, [missed(9.0, 0.4)] * 2, [missed(20.0, 0.3)] * 2
    flat = [missed(math.inf, 0.35)] * 2
    names = [OWN, "late", "flat", "soon"]
    lines = ranking.rank([candidate(name) for name in names], [own, late, flat, soon])
    assert [line.candidate.name for line in lines] == ["soon", "late", "flat", OWN]
    assert math.isnan(lines[0].ratio.interval.mean)
    assert ranking.alike(lines) == [2, 3, 4]
    reached = [outcome(2.0)] * 2
    (first, _) = ranking.rank([candidate(OWN), candidate("b")], [own, reached])
    assert (first.ratio.sign, first.ratio.interval.mean) == ("<", pytest.approx(0.25))


def test_medians_and_the_multiple_of_the_genie():
    outcomes = [outcome(2.0, genie_s=1.0, updates=5), outcome(9.0, genie_s=3.0, updates=7)]
    (line,) = ranking.rank([candidate(OWN)], [outcomes])
    assert line.genie == pytest.approx(2.5)
    assert line.median("updates") == 6
    (line,) = ranking.rank([candidate(OWN)], [[outcome(2.0, genie_s=1.0), outcome(math.inf, 9.0)]])
    assert math.isnan(line.genie)


def test_the_score_of_several_seeds():
    whole = score([outcome(1.0), outcome(3.0)], 2)
    assert (whole.mean, whole.reached, whole.value) == (2.0, True, pytest.approx(0.2))
    extrapolated = Outcome(math.inf, 7.0, 2.0, 0.4)
    some = score([outcome(1.0), extrapolated], 2)
    assert (some.mean, some.reached) == (4.0, False)
    cut = score([outcome(1.0)], 2)
    assert (cut.mean, cut.reached) == (math.inf, False)
    assert sorted([cut, some, whole], key=lambda each: each.key) == [whole, some, cut]
    diverged = score([Outcome(math.inf, math.inf, 2.0, math.nan)], 1)
    assert diverged.key == (math.inf, True, math.inf)


def printed(lines, seeds, rankings=(), width=110) -> str:
    file = io.StringIO()
    table.show(lines, seeds, rankings, Console(file=file, width=width, highlight=False, markup=False))
    return file.getvalue()


def test_intervals_stand_under_what_they_are_of():
    def outcomes(*factors: float) -> list[Outcome]:
        return [
            outcome(
                1.1 * factor, updates=round(9000 * factor), bytes_up=round(990_000 * factor),
                bytes_down=round(2e9 * factor), wasted=0.1 * factor, genie_s=0.001,
            )
            for factor in factors
        ]  # fmt: skip

    lines = ranking.rank([candidate(OWN)], [outcomes(1.0, 1.1, 1.21)])
    text = printed(lines, (1, 2, 3))
    heads, _, first, second, *_ = text.splitlines()
    # ln 1.1 is the deviation; 4.302653 / √3 times that is ln 1.2671
    for name, median, bounds in (
        ("time to it", "1.21 s", "955 ms – 1.53 s"),
        ("updates", "9,900", "7.81k – 12.5k"),
        ("up", "1.09 MB", "0.86 – 1.38 MB"),
        ("down", "2.20 GB", "1.74 – 2.79 GB"),
        ("wasted", "11.0 %", "8.4 – 14 %"),
    ):
        edge = f"{heads} ".index(f" {name} ") + 1 + len(name)
        assert first[:edge].endswith(f" {median}")
        assert second[:edge].endswith(f" {bounds}")
    assert "medians over the 95 % intervals of their means" in " ".join(text.split())
    narrow = printed(lines, (1, 2, 3), width=80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "\n   up 1.09 MB (0.86 – 1.38 MB), down 2.20 GB (1.74 – 2.79 GB)\n" in narrow
    for word in ("9,900", "7.81k – 12.5k", "8.4 – 14 %"):
        assert word in narrow
    alone = printed(ranking.rank([candidate(OWN)], [outcomes(1.0)]), (1,))
    assert "95 %" not in alone
    alone = printed(ranking.rank([candidate(OWN)], [outcomes(1.0)]), (1,), width=80)
    assert "\n   up 990 kB, down 2.00 GB\n" in alone
    wild = ranking.rank([candidate(OWN)], [outcomes(1.0, 2.0)])
    assert "  0.02 – 114 MB" in printed(wild, (1, 2))  # √2 · 990 kB, by and times e^4.403


def test_the_table():
    own = [outcome(1.4, updates=900, bytes_up=4_700_000, genie_s=1.0), outcome(1.6, genie_s=1.0, updates=900)]
    good = [outcome(0.7, genie_s=0.7, wasted=0.25), outcome(0.8, genie_s=0.8, wasted=0.25)]
    finalists = [candidate(OWN), candidate("preset default", 2.0)]
    lines = ranking.rank(finalists, [own, good])
    rung = Rung(1, 5, 1, 0.5, (1001,))

    def scored(mean: float, reached: bool, value: float = 0.5) -> Score:
        return Score(mean, reached, value, ())

    ranked = [
        (finalists[1], scored(0.4, True)),
        (candidate(DRAWN), scored(0.45, True)),
        (candidate("uncoded all"), scored(math.inf, False)),
        (finalists[0], scored(0.6, False)),
    ]
    text = printed(lines, (1, 2), [Ranking(rung, ranked)])
    assert max(map(len, text.splitlines())) <= 110
    assert not any(line.endswith(" ") for line in text.splitlines())
    head = text[text.index("\n1 ") :].split("\n2 ")[0]
    assert "preset default" in head
    assert "rate ×2" in head
    for word in ("748 ms", "0.50×", "1.00×", "25.0 %"):
        assert word in head
    assert "Number 1 is told from every other at 95 %." in text
    left = text.split("Left out")[1]
    assert left.count("over 400 ms") == 2
    assert "drawn: net k=16" in left
    assert "yours" not in left  # it is in the table
    alike = printed(ranking.rank(finalists, [own, own]), (1, 2))
    assert "Intervals overlap: these seeds do not tell number 2 from number 1" in " ".join(alike.split())
    assert "Your own configuration is the first." in alike
    assert "One seed tells no interval." in printed(ranking.rank(finalists, [own[:1], good[:1]]), (1,))
    missed = printed(ranking.rank(finalists, [[own[0], outcome(math.inf, 9.0)], good]), (1, 2))
    assert "1 of 2: 0.2" in missed
    assert "< 0.21×" in missed


def test_a_cell_that_is_too_long_takes_the_room_to_its_left():
    cells = "1", "yours", "5 of 5: diverged" * 2, "1", "", "123.4k – 1,234.5k", "u", "d", "w"
    line = table.row(True, *cells)
    assert line.split() == " ".join(cells).split()
    assert line[:64].endswith(cells[5])
    assert len(line) == sum(table.WIDTHS)


def test_verdicts_of_a_rung():
    rung = Rung(1, 4, 2, 0.5, (1,))
    assert table.verdict(Score(0.4, True, 0.1, ()), rung, math.inf) == "400 ms"
    assert table.verdict(Score(0.4, True, 0.1, ()), rung, 0.3) == "over 300 ms"
    assert table.verdict(Score(2.0, False, 0.1, ()), rung, math.inf) == "extrapolated to 2.00 s"
    assert "0.7 at the end" in table.verdict(Score(math.inf, False, 0.7, ()), rung, math.inf)
    assert "0.7 at the end" in table.verdict(Score(1e9, False, 0.7, ()), rung, math.inf)
    assert table.verdict(Score(math.inf, False, math.nan, ()), rung, math.inf) == "diverged"
