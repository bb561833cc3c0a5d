"""The first of the ranking as a configuration that `pdcode run` takes as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .. import problems
from ..config.tables import Config, ProblemTable
from ..config.write import to_toml
from ..util.errors import InputError
from ..util.output import ensure_writable
from .goal import Goal
from .report import seconds
from .search import Environment, Found

HEAD = b"# Written by `pdcode plan"  # how each plan begins
LOOKS, LEAST_S = 50, 1e-3  # measurements until the predicted time to the target; least time between two, s
SPARE = 10  # multiple of the predicted updates after which a run without other limits gives up


def output_path(path: str, output: str | None) -> Path:
    """Choose the file: `output`, or ``results/<name of the configuration>.plan.toml``.

    Raises
    ------
    InputError
        If that is the configuration itself, is no plan, or cannot be written.
    """
    chosen = Path(output) if output is not None else Path("results") / f"{Path(path).stem}.plan.toml"
    if chosen.exists() and Path(path).exists() and chosen.samefile(path):
        raise InputError(f"{chosen}: the plan would overwrite the configuration; choose another with -o")
    ensure_writable(chosen, str(chosen))
    if chosen.exists() and not _is_plan(chosen):
        raise InputError(f"{chosen}: something is there that no plan has written; choose another with -o")
    return chosen


def _is_plan(path: Path) -> bool:
    """Return whether a file is a plan, or empty."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HEAD)) in (b"", HEAD)


def best_config(found: Found, environment: Environment, limit_s: float | None = None) -> Config:
    """Make the configuration of the best scheme, with the user's own stragglers, machine, link and trace.

    It ends at the plan's target alone, at no fewer updates than the scheme may need and no sooner than the
    time that the plan was given (`limit_s`). Its trace takes the place of neither the user's nor the plan's.
    """
    row, user = found.rows[0], environment.user
    config = row.candidate.config
    needed = math.ceil(SPARE * row.median("updates"))
    stop = environment.goal.stop(
        None if user.stop.seconds is None else max(user.stop.seconds, limit_s or 0.0),
        None if user.stop.updates is None else max(user.stop.updates, needed),
    )
    progress_s = user.trace.progress_s
    if math.isfinite(row.time.mean):  # so that the run notices in time that it has reached the target
        progress_s = min(progress_s, max(LEAST_S, float(f"{row.time.mean / LOOKS:.2g}")))
    path = Path(user.trace.path)
    taken = {path.absolute(), *([environment.trace.path.absolute()] if environment.trace else [])}
    while path.absolute() in taken:
        path = path.with_name(f"{path.stem}.plan{path.suffix}")
    return msgspec.structs.replace(
        config,
        seed=user.seed,
        problem=explicit_shards(config.problem, config.workers.count),
        scheme=msgspec.structs.replace(config.scheme, preset=None),  # all that it fills in is written out
        stragglers=user.stragglers,
        machine=user.machine,
        link=user.link,
        stop=stop,
        trace=msgspec.structs.replace(user.trace, path=str(path), progress_s=progress_s),
    )


def explicit_shards(table: ProblemTable, workers: int) -> ProblemTable:
    """Write `shards` out where auto gives each worker all rows, which a run over MPI refuses to guess."""
    if table.shards != "auto":
        return table
    source = problems.describe(table)
    if source.dealt(workers) == source.rows:
        return table
    return msgspec.structs.replace(table, shards="replicated")


def write_plan(path: Path, config: Config, comments: Sequence[str]) -> None:
    """Write a configuration under comments.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    head = "".join(f"# {' '.join(comment.split())}\n" for comment in comments)
    try:
        path.write_text(f"{head}{to_toml(config)}", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot write the plan: {error.strerror}") from None


def comments(found: Found, goal: Goal, command: str) -> list[str]:
    """Say where the configuration comes from, and what is predicted."""
    row, own, seeds = found.rows[0], found.own, found.seeds
    done, takes = (
        f"reached by {each.reached} in" if each.missed else text
        for each, text in ((row, "after"), (own, "takes"))
    )
    span = f" ({seconds(row.time.low)} – {seconds(row.time.high)}, 95 %)" if row.time.known else ""
    return [
        f"Written by `{command}`: the first of {found.candidates} candidates.",
        str(row.candidate),
        f"Predicted on the virtual clock: {goal} {done} {seconds(row.time.mean)}{span}, seeds "
        f"{seeds[0]} – {seeds[-1]}; the configuration that it was planned for {takes} "
        f"{seconds(own.time.mean)}.",
    ]
