"""Learning rates of a comparison: chosen for each entrant by the same number of runs, or those of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from ..training.monitor import Print
from ..util.errors import InputError
from ..util.formats import listing
from ..util.processes import Pool
from .comparison import Comparison
from .goal import Goal
from .measurement import Cell, results
from .named_candidates import Entrant
from .search import SEARCH
from .search_space import rate_key, rate_of
from .tournament import HEAD, Race, verdict, write
from .trial import Outcome

FIRST = (-2.0, 0.0, 2.0)  # the rates that are tried first: powers of 2, as multiples of the entrant's own
STEP = 2.0  # how far beyond the least or largest rate the search goes, as a power of 2


class Search:
    """Search for the power of 2 by which an entrant's learning rate is best multiplied.

    It starts with `FIRST`. While the best of those tried is the least or the largest, it goes on beyond that
    by `STEP`; then it halves the wider of the two gaps beside the best, or of equal ones that beside its
    better neighbour.
    """

    def __init__(self) -> None:
        self._tried: dict[float, tuple[float, ...]] = {}

    def add(self, power: float, outcome: Outcome, goal: Goal | None) -> None:
        """Record the outcome of a run; a power is judged by the worst of its runs."""
        key = _key(power, outcome, goal)
        self._tried[power] = max(key, self._tried.get(power, key))

    @property
    def best(self) -> float:
        """The best power so far."""
        return min(self._tried, key=self._tried.__getitem__)

    @property
    def limit_s(self) -> float:
        """Time to the target with the best power so far, which another must not exceed to be better."""
        reached, seconds, _ = min(self._tried.values(), default=(1, 0, 0))
        return seconds if reached == 0 else math.inf

    @property
    def at_an_edge(self) -> bool:
        """Whether that is the least or largest tried."""
        return self.best in (min(self._tried), max(self._tried))

    def next(self) -> Sequence[float]:
        """Return the powers to try next."""
        if not self._tried:
            return FIRST
        best, powers = self.best, sorted(self._tried)
        if self.at_an_edge:
            return [best + math.copysign(STEP, best - powers[len(powers) // 2])]
        place = powers.index(best)
        beside = (powers[place - 1], powers[place + 1])
        wider = min(beside, key=lambda power: (-abs(power - best), self._tried[power]))
        return [(best + wider) / 2]


def _key(power: float, outcome: Outcome, goal: Goal | None) -> tuple[float, ...]:
    """Return the sort key of a run: less is better. Of diverged ones, those with lower rates are better."""
    if outcome.diverged or not math.isfinite(outcome.value):
        return 2, power, 0
    if outcome.reached and goal:
        return 0, outcome.seconds, outcome.value
    return 1, outcome.value, power


def tune(race: Race, rates: int, pool: Pool, print_line: Print, seeds: int = 1) -> tuple[Race, str]:
    """Choose each entrant's learning rate of `rates` tried, under seeds that the comparison does not use.

    A rate is judged by the worst of its runs, one for each of `seeds` seeds. Runs end when they are too slow
    to be the best.

    Returns
    -------
    race : Race
        The same with the chosen rates.
    note : str
        How they were chosen, and whose best rate was the least or the largest that was tried.
    """
    first, searches = race.seeds[0] + SEARCH, [Search() for _ in race.entrants]
    done, total = 0, rates * seeds * len(searches)
    while done < total:
        tried = [(place, power) for place, search in enumerate(searches) for power in search.next()]
        powers = [pair for pair in tried for _ in range(seeds)]
        entrants = [
            _within(_at(race.entrants[place], power), searches[place].limit_s) for place, power in powers
        ]
        cells = [
            (number, _cell(race, each, first + number % seeds, number))
            for number, each in enumerate(entrants)
        ]
        for number, (measured, _) in results(cells, pool):
            done += 1
            place, power = powers[number]
            searches[place].add(power, measured.outcome(race.goal), race.goal)
            for path in (cells[number][1].trace, cells[number][1].file):
                Path(path).unlink(missing_ok=True)
            entrant = entrants[number]
            now = f"{entrant.name}, {'.'.join(rate_key(entrant.config))} {entrant.rate:g}"
            print_line(f"tuning {done} of {total}: {now}: {verdict(measured, race.goal)}")
    pairs = list(zip(race.entrants, searches, strict=True))
    text = note(rates, race.seeds, seeds)
    if edges := [entrant.name for entrant, search in pairs if search.at_an_edge]:
        text += f" Those of {listing(edges)} are the least or largest that were tried."
    return replace(race, entrants=[_at(entrant, search.best) for entrant, search in pairs]), text


def note(rates: int, seeds: Sequence[int], runs: int) -> str:
    """Say how learning rates are chosen for a comparison of these seeds."""
    first = seeds[0] + SEARCH
    if runs == 1:
        return f"Learning rates: the best of {rates} runs each under seed {first}."
    under = f"seeds {first} – {first + runs - 1}"
    return f"Learning rates: the best of {rates} each, judged by the worst run under {under}."


def _cell(race: Race, entrant: Entrant, seed: int, number: int) -> Cell:
    """Make a run of an entrant with a configuration file of its own, which a real run reads."""
    stem = str(race.folder / f"tuning-{number}")
    cell = replace(race.cell(entrant, seed), trace=f"{stem}.h5", file=f"{stem}.toml")
    write(cell, f"{HEAD} to tune '{entrant.name}'")
    return cell


def _within(entrant: Entrant, limit_s: float) -> Entrant:
    """Return an entrant whose run ends after `limit_s`, or before."""
    stop = entrant.config.stop
    earliest = min(limit_s, math.inf if stop.seconds is None else stop.seconds)
    if not math.isfinite(earliest):
        return entrant
    stop = msgspec.structs.replace(stop, seconds=earliest)
    return replace(entrant, config=msgspec.structs.replace(entrant.config, stop=stop))


def _at(entrant: Entrant, power: float) -> Entrant:
    """Return an entrant with its learning rate multiplied by a power of 2."""
    return entrant.at(entrant.rate * 2.0**power)


def take(race: Race, path: str, other: Comparison) -> tuple[Race, str]:
    """Give each entrant the learning rate that it has in another comparison.

    Raises
    ------
    InputError
        If an entrant is not in it.
    """
    rates = dict(zip(other.names, map(rate_of, other.read_configs(path)), strict=True))
    if missing := [name for name in race.names if name not in rates]:
        raise InputError(f"--rates {path}: has no scheme {listing([repr(name) for name in missing])}")
    chosen = [entrant.at(rates[entrant.name]) for entrant in race.entrants]
    return replace(race, entrants=chosen), f"Learning rates: those of {path}."
