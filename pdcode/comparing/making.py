"""A comparison from its first to its last run."""

from __future__ import annotations

from collections.abc import Sequence

from ..training.monitor import Print
from ..util.processes import Pool
from . import tuning
from .file import Comparison
from .race import Race, run, write_entrants


def make(
    race: Race,
    config: str,
    notes: Sequence[str],
    command: str,
    pool: Pool,
    print_line: Print,
    *,
    tune: int | None = None,
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
    tune : int, optional
        Runs by which each entrant's learning rate is chosen.
    rates : tuple of str and Comparison, optional
        File and content of a comparison of which learning rates are taken.
    keep : bool
        Whether to keep the traces.

    Raises
    ------
    InputError
        If a file cannot be written, or `rates` lacks an entrant.
    """
    notes = list(notes)
    if tune:
        write_entrants(race, command)
        race, note = tuning.tune(race, tune, pool, print_line)
        notes.append(note)
    elif rates:
        race, note = tuning.take(race, *rates)
        notes.append(note)
    write_entrants(race, command)
    results = run(race, pool, print_line, keep)
    return Comparison(
        race.names, race.configs, list(race.seeds), race.clock, race.goal, *results, command, config, notes
    )
