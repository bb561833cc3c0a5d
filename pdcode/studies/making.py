"""A comparison from its first to its last run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..training.monitor import Print
from ..util.errors import InputError
from ..util.processes import Pool
from . import rate_tuning as tuning
from .comparison import Comparison
from .tournament import Choice, Race, make_race, run, write_entrants


def make(
    race: Race,
    config: str,
    notes: Sequence[str],
    command: str,
    pool: Pool,
    print_line: Print,
    *,
    tune: int | None = None,
    tuning_seeds: int = 1,
    rates: tuple[str, Comparison] | None = None,
    keep: bool = False,
) -> Comparison:
    """Choose the learning rates, write the entrants' files, and perform all runs.

    Parameters
    ----------
    race, config, notes
        What `race.make_race` returns.
    command : str
        The command, for the files.
    pool : Pool
    print_line : callable
        Prints a line of progress.
    rates : tuple of str and Comparison, optional
        File and content of a comparison of which learning rates are taken.
    tune : int, optional
        Learning rates that are then tried of each entrant.
    tuning_seeds : int
        Runs by which each is judged.
    keep : bool
        Whether to keep the traces.

    Raises
    ------
    InputError
        If a file cannot be written, or `rates` lacks an entrant.
    """
    notes = list(notes)
    if rates:
        race, note = tuning.take(race, *rates)
        notes.append(note)
    if tune:
        write_entrants(race, command)
        race, note = tuning.tune(race, tune, pool, print_line, tuning_seeds)
        notes.append(note)
    write_entrants(race, command)
    results = run(race, pool, print_line, keep)
    return Comparison(
        race.names, race.configs, list(race.seeds), race.clock, race.goal, *results, command, config, notes
    )


def make_once(
    path: Path,
    choice: Choice,
    command: str,
    pool: Pool,
    print_line: Print,
    *,
    tune: int | None = None,
    tuning_seeds: int = 1,
    rates: Path | None = None,
) -> None:
    """Make a comparison of a bench and write its file, unless the same is there already.

    Raises
    ------
    InputError
        If another comparison is there, or as `make`.
    """
    race, text, notes = make_race(choice, path.with_suffix(""))
    if path.exists():
        made = Comparison.load(path)
        same = (made.names, made.seeds, made.config) == (race.names, [*race.seeds], text)
        if not same or (tune and tuning.note(tune, race.seeds, tuning_seeds) not in " ".join(made.notes)):
            raise InputError(f"{path}: is there, of another bench; use another folder, or remove it")
        print_line(f"{path}: there already")
        return
    print_line(f"{path}:")
    taken = None if rates is None else (str(rates), Comparison.load(rates))
    made = make(
        race, text, notes, command, pool, print_line, tune=tune, tuning_seeds=tuning_seeds, rates=taken
    )
    made.save(path)
