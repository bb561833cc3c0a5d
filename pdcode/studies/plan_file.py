"""The file of a plan: the best candidate as a configuration for `pdcode run`."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .. import problems
from ..api.plans import BETWEEN
from ..config import Config, ProblemTable
from ..config.write import to_toml
from ..util.errors import InputError
from ..util.formats import DASH, counted, ratio
from ..util.output import ensure_replaceable, ensure_writable, write_file
from .candidate import Candidate
from .ranking import Row
from .results_table import cells, format_seconds
from .search import Environment, SearchResult

HEAD = b"# Written by `pdcode plan"  # first bytes of every plan
UPDATES_SLACK = 8  # limit of the updates, as a multiple of the expected number
POINTS, MIN_PERIOD_S = 50, 1e-3  # measurements until the predicted time to the target; their least period


def output_path(path: str, output: str | None) -> Path:
    """Choose the plan's file: `output`, or ``results/<name of the configuration>.plan.toml``."""
    chosen = Path(output) if output is not None else Path("results") / f"{Path(path).stem}.plan.toml"
    ensure_writable(chosen, str(chosen))
    if chosen.exists() and Path(path).exists() and chosen.samefile(path):
        raise InputError(f"{chosen}: the plan would overwrite the configuration; choose another with -o")
    ensure_replaceable(chosen, str(chosen), "a plan", _is_plan)
    return chosen


def _is_plan(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(HEAD)) == HEAD


def best_config(found: SearchResult, environment: Environment, limit_s: float | None = None) -> Config:
    """Make the configuration of the best candidate, with the user's own stragglers, machine, link and trace.

    It stops at the plan's target. Its limits of updates and time are at least those that the scheme may need,
    and `limit_s`. Its trace overwrites neither the user's nor the plan's.
    """
    row, user = found.rows[0], environment.user
    config = row.candidate.config
    needed = math.ceil(UPDATES_SLACK * row.median("updates"))
    stop = environment.goal.stop(
        None if user.stop.seconds is None else max(user.stop.seconds, limit_s or 0.0),
        None if user.stop.updates is None else max(user.stop.updates, needed),
    )
    progress_s = user.trace.progress_s
    if progress_s is not None and math.isfinite(row.time.mean):  # to notice the target in time
        progress_s = min(progress_s, max(MIN_PERIOD_S, float(f"{row.time.mean / POINTS:.2g}")))
    path = Path(user.trace.path)
    taken = {path.absolute(), *([environment.trace.path.absolute()] if environment.trace else [])}
    while path.absolute() in taken:
        path = path.with_name(f"{path.stem}.plan{path.suffix}")
    return msgspec.structs.replace(
        config,
        seed=user.seed,
        problem=explicit_shards(config.problem, config.workers.count),
        scheme=msgspec.structs.replace(config.scheme, preset=None),  # its defaults are written out
        stragglers=user.stragglers,
        machine=user.machine,
        link=user.link,
        faults=user.faults,
        stop=msgspec.structs.replace(stop, epochs=user.stop.epochs),
        trace=msgspec.structs.replace(user.trace, path=str(path), progress_s=progress_s),
    )


def explicit_shards(table: ProblemTable, workers: int) -> ProblemTable:
    """Set `shards` explicitly if "auto" would replicate rows, which a run over MPI refuses."""
    if table.shards != "auto":
        return table
    source = problems.load_source(table)
    if source.total_rows(workers) == source.rows:
        return table
    return msgspec.structs.replace(table, shards="replicated")


def write_plan(path: Path, config: Config, comments: Sequence[str]) -> None:
    """Write a configuration with comments at the top."""
    head = "".join(f"# {' '.join(comment.split())}\n" for comment in comments)
    write_file(path, f"{head}{to_toml(config)}", "the plan")


def comments(found: SearchResult, environment: Environment, command: str, path: Path) -> list[str]:
    """Describe the origin of the configuration, the prediction, and the ranking, which `Plan` reads."""
    goal, trace = environment.goal, environment.trace
    recorded = f" --stragglers {shlex.quote(str(trace.path))} --set stragglers.draw=block" if trace else ""
    row, own, seeds = found.rows[0], found.own, found.seeds
    done, takes = (
        f"reached by {each.reached} in" if each.missed else text
        for each, text in ((row, "after"), (own, "takes"))
    )
    low, high = format_seconds(row.time.low), format_seconds(row.time.high)
    span = f" ({low} – {high}, 95 %)" if row.time.known else ""
    return [
        f"Written by `{command}`: the first of {counted(found.schemes, 'scheme')}.",
        str(row.candidate),
        f"Predicted on the virtual clock: {goal} {done} {format_seconds(row.time.mean)}{span}, seeds "
        f"{seeds[0]} – {seeds[-1]}; the user's own configuration {takes} "
        f"{format_seconds(own.time.mean)}.",
        price(found),
        f"Repeat: `pdcode simulate {shlex.quote(str(path))}{recorded}`, with these seeds by --set seed=N.",
        BETWEEN.join(("rank", f"time to {goal}", "95 %", "of yours", "candidate")),
        *(
            BETWEEN.join((str(place), *ranked(each), str(each.candidate)))
            for place, each in enumerate(found.rows, 1)
        ),
    ]


def price(found: SearchResult) -> str:
    """Describe what the search has cost on the virtual clock."""
    multiple = ratio(found.spent_s / found.length_s)
    return (
        f"Price: {counted(len(found.spent), 'simulated run')} of {format_seconds(found.spent_s)} in all, "
        f"{multiple} the time of the user's own configuration."
    )


def ranked(row: Row[Candidate]) -> list[str]:
    """Return the time of a finalist, its interval, and the ratio to the time of the user's own.

    None is empty, which the lines of a file would not keep.
    """
    line = cells(row, "yours")
    return [each or DASH for each in (*line["time"], line["of yours"].value)]
