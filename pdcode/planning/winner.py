"""The first of the ranking as a configuration that `pdcode run` takes as it is."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .. import problems
from ..cli import preview
from ..config.tables import Config, Problem, Stop
from ..util.errors import InputError
from .goal import Goal
from .ranking import Line
from .table import describe, seconds

HEAD = b"# Written by `pdcode plan"  # how each plan begins
LOOKS, LEAST_S = 50, 1e-3  # at the loss, until the predicted time to the target; s: from one to the next
SPARE = 10  # times the updates that were predicted, before a run without other limits gives up


def place(path: str, output: str | None) -> Path:
    """Where to write it: as asked for, or ``results/<name of the configuration>.plan.toml``.

    Raises
    ------
    InputError
        If that is the configuration itself, or nothing can be written there.
    """
    chosen = Path(output) if output is not None else Path("results") / f"{Path(path).stem}.plan.toml"
    if chosen.exists() and Path(path).exists() and chosen.samefile(path):
        raise InputError(f"{chosen}: the plan would overwrite the configuration; choose another with -o")
    if chosen.is_dir():
        raise InputError(f"{chosen}: cannot write the plan: it is a folder")
    if chosen.exists() and not ours(chosen):
        raise InputError(f"{chosen}: something is there that no plan has written; choose another with -o")
    try:
        chosen.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen.parent):
            pass
    except OSError as error:
        raise InputError(f"{chosen}: cannot write the plan: {error.strerror}") from None
    return chosen


def ours(path: Path) -> bool:
    """Whether a file is a plan, or empty."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(len(HEAD))
    return head in (b"", HEAD)


def config_of(
    line: Line, user: Config, goal: Goal, traces: Sequence[str] = (), seconds: float | None = None
) -> Config:
    """The candidate's scheme with the user's own stragglers, machine, link and trace.

    The run ends at the goal and at no other target, not after so few updates as a scheme of larger steps
    would need, and not before the time that the plan was given; its trace goes beside the user's. Rows that
    each worker had all of, as there are fewer than workers, are asked for by name: a run over MPI refuses to
    guess that.

    Parameters
    ----------
    line : Line
    user : Config
    goal : Goal
    traces : sequence of str
        Files that its trace must not take the place of.
    seconds : float, optional
        Virtual time that the plan was given.
    """
    config = line.candidate.config
    needed = math.ceil(SPARE * line.median("updates"))
    updates = user.stop.updates
    stop = Stop(
        seconds=None if user.stop.seconds is None else max(user.stop.seconds, seconds or 0.0),
        updates=max(updates, needed) if updates is not None else None,
        loss=goal.level if goal.kind == "loss" else None,
        accuracy=goal.level if goal.kind == "accuracy" else None,
    )
    # It must see that it is there about when it is.
    progress_s = user.trace.progress_s
    if math.isfinite(line.time.mean):
        progress_s = min(progress_s, max(LEAST_S, float(f"{line.time.mean / LOOKS:.2g}")))
    path = Path(user.trace.path)
    taken = {Path(each).absolute() for each in (user.trace.path, *traces)}
    path = path.with_name(f"{path.stem}.plan{path.suffix}")
    while path.absolute() in taken:
        path = path.with_name(f"{path.stem}.plan{path.suffix}")
    return msgspec.structs.replace(
        config,
        seed=user.seed,
        problem=dealt(config.problem, config.workers.count),
        scheme=type(config.scheme)(),  # all that it fills in is written out
        stragglers=user.stragglers,
        machine=user.machine,
        link=user.link,
        stop=stop,
        trace=msgspec.structs.replace(user.trace, path=str(path), progress_s=progress_s),
    )


def dealt(table: Problem, workers: int) -> Problem:
    """The problem with `shards` written out where auto means that each worker has all rows."""
    if table.shards != "auto":
        return table
    source = problems.describe(table)
    if source.dealt(workers) == source.rows:
        return table
    return msgspec.structs.replace(table, shards="replicated")


def write(path: Path, config: Config, comments: Sequence[str]) -> None:
    """Write a configuration with a comment above it.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    head = "".join(f"# {' '.join(comment.split())}\n" for comment in comments)
    try:
        path.write_text(f"{head}{preview.toml(config)}", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot write the plan: {error.strerror}") from None


def comments(
    line: Line, own: Line, goal: Goal, seeds: Sequence[int], candidates: int, command: str
) -> list[str]:
    """Where it comes from, and what is predicted."""
    if line.missed:
        done = f"reached by {len(line.outcomes) - line.missed} of {len(line.outcomes)} in"
    else:
        done = "after"
    span = f" ({seconds(line.time.low)} – {seconds(line.time.high)}, 95 %)" if line.time.known else ""
    reached = (
        f"reached by {len(own.outcomes) - own.missed} of {len(own.outcomes)} in" if own.missed else "takes"
    )
    return [
        f"Written by `{command}`: the first of {candidates} candidates.",
        describe(line.candidate),
        f"Predicted on the virtual clock: {goal} {done} {seconds(line.time.mean)}{span}, seeds "
        f"{seeds[0]} – {seeds[-1]}; the configuration that it was planned for {reached} "
        f"{seconds(own.time.mean)}.",
    ]
