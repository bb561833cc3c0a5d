"""Tables of delays that cannot be meant, and runs that their dead workers would never let end."""

from __future__ import annotations

from ..coding.policies import wanted
from ..config.tables import Config, Stragglers
from ..util.errors import InputError
from .kinds import KINDS, create

COMMON = ("kind", "how")  # keys that every kind has


def check(table: Stragglers, workers: int) -> None:
    """Refuse a table that cannot be meant.

    Raises
    ------
    InputError
        Naming key and value: workers that do not exist, keys of another kind, keys that are missing, and a
        file that cannot be used. Where the kind is ``none``, the other keys wait for another one.
    """
    for key in ("slow", "dead"):
        for worker in getattr(table, key):
            if worker >= workers:
                raise InputError(
                    f"stragglers.{key}: worker {worker} does not exist (there are {workers}, from 0)"
                )
    kind = KINDS[table.kind]
    if table.kind == "none":
        return
    default = Stragglers()
    for key in table.__struct_fields__:
        value = getattr(table, key)
        if value != getattr(default, key) and key not in (*COMMON, *kind.modifiers, *kind.keys):
            raise InputError(f"stragglers.{key}: {value!r} is not a key of kind '{table.kind}'")
    for key in kind.needs:
        if not getattr(table, key):
            what = "a file" if key == "path" else "a number greater than 0"
            raise InputError(
                f"stragglers.{key}: kind '{table.kind}' needs {what}, got {getattr(table, key)!r}"
            )
    if table.kind == "trace":
        create(table, 0, workers)


def dead(table: Stragglers, workers: int) -> list[int]:
    """Workers that never answer, in order."""
    return [int(worker) for worker in create(table, 0, workers).dead.nonzero()[0]]


def check_end(config: Config) -> None:
    """Refuse dead workers for whom rank 0 would wait for ever.

    Raises
    ------
    InputError
        If the policy cannot be sure of an update without them, and no time ends the run.
    """
    workers, update = config.workers.count, config.update
    gone = dead(config.stragglers, workers)
    if not gone or config.stop.seconds is not None:
        return
    living = workers - len(gone)
    enough = update.mode == "async" or (update.mode == "first" and wanted(update, workers) <= living)
    if not (enough and living):
        listed = ", ".join(map(str, gone[:8])) + (", …" if len(gone) > 8 else "")
        raise InputError(
            f"stop.seconds: not given, and update.mode '{update.mode}' may wait for ever with {living} of "
            f"{workers} workers living (dead: {listed})"
        )
