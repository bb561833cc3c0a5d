"""Map of the fastest scheme over the bandwidth of rank 0's link and the size of the delays.

Presets, top-k and uncoded schemes run on the virtual clock to the target of a configuration, in every cell
of a grid. Learning rates are chosen in the middle cell. The map is printed and drawn.

``python experiments/schemes_map.py CONFIG [--bandwidths B,B,…] [--severities S,S,…] …``; without CONFIG the
digits job to a training loss of 0.1.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from rich.console import Console

from pdcode import stragglers
from pdcode.analysis import printing, style
from pdcode.analysis.style import GREY, INK, sheet
from pdcode.api import configs
from pdcode.config import MAX_VALUE, Config, StragglersTable
from pdcode.session import setup
from pdcode.studies import halving, search, search_space
from pdcode.studies.candidate import OWN, Candidate
from pdcode.studies.cells import task_s
from pdcode.studies.goal import Goal
from pdcode.studies.halving import Runs, TrialOfSeeds
from pdcode.studies.limits import ARRIVALS, Limits, max_updates, with_limits
from pdcode.studies.ranking import Row
from pdcode.studies.trial import TUNING_OFFSET, Trial
from pdcode.util.errors import InputError
from pdcode.util.formats import ratio, size
from pdcode.util.processes import Pool

SCHEMES = "lwpd", "topk", "uncoded"
MULTIPLES = (1.0, 2.0, 0.5, 4.0, 0.25)  # multiples of the schemes' learning rates
UPDATES_SLACK = 8  # limit of a run's updates, as a multiple of the number in tuning
ROUNDS = 4  # rounds of all workers between measurements
RECORDED = (0.0, 1.0, 2.0, 4.0, 8.0)  # default severities for recorded delays
SEVERITIES = (0.0, 0.25, 1.0, 4.0, 16.0)  # default severities for other delays
BANDWIDTHS = (1e5, 1e6, 1e7, 1e8, 1e9)  # bytes/s

Contestant = tuple[Candidate, int]
"""A candidate, and the maximum number of updates of its runs."""


@dataclass(frozen=True)
class Grid:
    """Axes of a map: bytes/s of rank 0's link, each way, and factors of the delays, see `scaled`."""

    bandwidths: Sequence[float]
    severities: Sequence[float]


@dataclass(frozen=True)
class MapCell:
    """Cell of a map, with the names and results of the schemes, best first."""

    bandwidth: float
    severity: float
    ranked: list[tuple[str, Runs]]

    @property
    def best(self) -> str:
        """Name of the best scheme; empty if none reached the target."""
        name, mean = self.ranked[0]
        return name if mean.reached else ""

    @property
    def factor(self) -> float:
        """Time of the second scheme over the first's; infinity if only the first reached the target."""
        others = [mean.seconds for _, mean in self.ranked[1:2] if mean.reached]
        return others[0] / self.ranked[0][1].seconds if others else math.inf

    @property
    def oracle(self) -> float:
        """Time of the first scheme over the oracle's, median of its runs; nan if unknown."""
        return Row("", self.ranked[0][1].runs).oracle if self.best else math.nan


def scaled(config: Config, severity: float) -> StragglersTable:
    """Multiply the configuration's delays by `severity`; 0 keeps only its dead workers.

    Without delays, exponential ones are added; `severity` is then their mean, in units of the compute time of
    a mini-batch's full gradient. Recorded delays cannot be shortened, nor lengthened together with slow
    workers.
    """
    table, workers = config.stragglers, config.workers.count
    if severity == 0:
        dead = stragglers.dead_workers(table, workers)
        return StragglersTable.of({"kind": "slow-set", "dead": dead} if dead else {})
    if severity == 1 and table.kind != "none":
        return table
    if table.kind == "trace":
        if severity < 1 or getattr(table, "slow", None):
            raise InputError(
                f"--severities {severity:g}: recorded delays can be kept (1), lengthened for all workers "
                "alike, or left out (0)"
            )
        changed: dict[str, Any] = {"slow": list(range(workers)), "slowdown": severity}
    elif table.kind == "none":
        mean_s = severity * task_s(config)
        table, changed = (
            StragglersTable.of({"kind": "shifted-exponential", "mean_s": 1.0}),
            {"mean_s": mean_s},
        )
    else:
        keys = [key for key in table.__struct_fields__ if key.endswith("_s")]
        changed = {key: severity * getattr(table, key) for key in keys}
        if not any(changed.values()):  # slow workers take multiples of their compute time
            changed = {"slowdown": 1 + severity * (getattr(table, "slowdown", 1.0) - 1)}
    for key, value in changed.items():
        if isinstance(value, float) and value > MAX_VALUE:
            raise InputError(f"--severities {severity:g}: stragglers.{key} would be more than {MAX_VALUE:g}")
    return msgspec.structs.replace(table, **changed)


def in_cell(config: Config, bandwidth: float, severity: float) -> Config:
    """Return the configuration for a cell's bandwidth and severity."""
    config = config.with_keys(link={"bandwidth": bandwidth})
    return msgspec.structs.replace(config, stragglers=scaled(config, severity))


def in_cell_of(candidate: Candidate, cell: Config) -> Candidate:
    """Return the candidate's scheme in the cell of a configuration."""
    config = msgspec.structs.replace(candidate.config, link=cell.link, stragglers=cell.stragglers)
    return Candidate(candidate.name, config, candidate.multiple)


def ranked(
    entrants: list[Contestant], goal: Goal, seeds: Sequence[int], places: int
) -> list[tuple[Candidate, Runs]]:
    """Rank candidates by their runs in one cell, the first `places` exactly, within this process."""

    def trial(entrant: Contestant, cut_off_s: float) -> Any:
        candidate, updates = entrant
        config = candidate.config
        length = ROUNDS * (config.workers.count if config.update.asynchronous else 1)
        probe = with_limits(config, goal, Limits(MAX_VALUE, MAX_VALUE), length)
        step_s = max(1e-6, Trial(probe, seeds[0], goal).perform().stop_s)
        config = with_limits(config, goal, Limits(MAX_VALUE, step_s), updates)
        return TrialOfSeeds([Trial(config, seed, goal) for seed in seeds], cut_off_s, step_s)

    raced: Any = halving.select_best(entrants, places, goal, Pool(1), trial)
    return [(candidate, mean) for (candidate, _), mean in raced]


def tune(config: Config, goal: Goal, grid: Grid, pool: Pool, arrivals: int) -> list[Contestant]:
    """Choose each scheme's learning rate in the middle cell; return the schemes, best first.

    Schemes that miss the target with all learning rates come last. A run ends after approximately `arrivals`
    arrivals.
    """
    middle = in_cell(config, *(sorted(axis)[len(axis) // 2] for axis in (grid.bandwidths, grid.severities)))
    seeds = config.seed + TUNING_OFFSET, config.seed + TUNING_OFFSET + 1

    def entrants() -> Iterator[tuple[str, list[Contestant]]]:
        offered = [each for each in search_space.of_portfolio(middle) if each.config.scheme.name in SCHEMES]
        for candidate in search.distinct([Candidate(OWN, middle), *offered]):
            made = search_space.at_rates(candidate, MULTIPLES)
            yield candidate.name, [(each, max_updates(each.config, arrivals)) for each in made]

    race = partial(ranked, goal=goal, seeds=seeds, places=1)
    firsts = [found[0] for _, found in pool.results(race, entrants())]
    firsts.sort(key=lambda pair: (pair[1].key(goal), pair[0].name))
    tuned = []
    for candidate, mean in firsts:
        time = f"{mean.seconds:.3g} s" if mean.reached else "not reached"
        print(f"  {candidate.name:16} rate ×{candidate.multiple:<5g} {time}", flush=True)
        updates = int(UPDATES_SLACK * max(run.updates for run in mean.runs))
        most = max_updates(candidate.config, arrivals)
        tuned.append((candidate, min(most, updates) if mean.reached else most))
    return tuned


def map_cells(
    environment: search.Environment, grid: Grid, seeds: Sequence[int], pool: Pool, arrivals: int
) -> tuple[list[MapCell], list[str]]:
    """Rank the schemes in all cells; return the cells and the schemes' names."""
    config = environment.config
    setup.prepare(config, environment.path)
    places = [(b, s) for s in grid.severities for b in grid.bandwidths]
    cells = [in_cell(config, *place) for place in places]
    print("learning rates, in the middle cell:", flush=True)
    schemes = tune(config, environment.goal, grid, pool, arrivals)
    items = (
        (number, [(in_cell_of(candidate, cell), updates) for candidate, updates in schemes])
        for number, cell in enumerate(cells)
    )
    done: dict[int, MapCell] = {}
    race = partial(ranked, goal=environment.goal, seeds=seeds, places=2)
    for number, found in pool.results(race, items):
        done[number] = MapCell(*places[number], [(candidate.name, mean) for candidate, mean in found])
        if len(done) % max(1, len(cells) // 10) == 0 or len(done) == len(cells):
            print(f"{len(done)} of {len(cells)} cells", flush=True)
    return [done[number] for number in range(len(cells))], [candidate.name for candidate, _ in schemes]


# Okabe and Ito's colours, two tints and two of Tol's; cells also show the schemes' names.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#332288",
    "#882255",
)  # fmt: skip
DARK = ("#0072B2", "#009E73", "#D55E00", "#332288", "#882255")  # cells with white text
PALE = 1.1  # lead below which a cell is drawn pale
NONE_REACHED = "nobody"
LABELS = {OWN: f"{OWN}: the job file's\nown scheme and code"}
ORACLE = "oracle ×: the first's time over the oracle's"


def colours(names: Sequence[str]) -> dict[str, str]:
    """Choose a colour for each scheme, independent of their order."""
    return dict(zip(sorted(names), COLOURS * (1 + len(names) // len(COLOURS)), strict=False))


def format_lead(cell: MapCell) -> str:
    """Format the factor by which the first scheme is ahead of the second."""
    if not cell.best:
        return ""
    return "alone" if math.isinf(cell.factor) else ratio(cell.factor)


def format_oracle(cell: MapCell) -> str:
    """Format the first scheme's time as a multiple of the oracle's; empty if unknown."""
    return f"oracle ×{ratio(cell.oracle).removesuffix('×')}" if math.isfinite(cell.oracle) else ""


def show(cells: Sequence[MapCell], grid: Grid, title: str, axis: str, console: Console | None = None) -> None:
    """Print the map, with a row per severity and a column per bandwidth."""
    columns = "", *(f"{size(bandwidth)}/s" for bandwidth in grid.bandwidths)
    table = printing.make_table(*columns, left=columns)
    at = {(cell.bandwidth, cell.severity): cell for cell in cells}
    for severity in sorted(grid.severities, reverse=True):
        row = (at[bandwidth, severity] for bandwidth in grid.bandwidths)
        table.add_row(
            f"{severity:g}",
            *("\n".join([cell.best or NONE_REACHED, format_lead(cell), format_oracle(cell)]) for cell in row),
        )
    legend = (
        f"Rows: {axis}. Columns: bandwidth of rank 0's link, each way. Factors: time of the second over "
        f"the first's. {ORACLE}, which knows all delays and balances the same tasks perfectly. Learning "
        "rates are tuned in the middle cell."
    )
    printing.show([(title, [table]), ("", [printing.note(legend)])], console)


def draw_map(cells: Sequence[MapCell], grid: Grid, names: Sequence[str], title: str, axis: str) -> Figure:
    """Draw the map."""

    columns, rows, palette = sorted(grid.bandwidths), sorted(grid.severities), colours(names)
    best = sorted({cell.best for cell in cells} - {""})
    patches = [Patch(facecolor=palette[name], label=LABELS.get(name, name)) for name in best]
    patches.append(Patch(facecolor="white", edgecolor=GREY, label=f"pale: by less than {PALE:g}×"))
    text = ORACLE.replace(": ", ":\n").replace(" over", "\nover")
    patches.append(Patch(facecolor="none", edgecolor="none", label=text))
    with sheet(max(6.8, 3.2 + 1.7 * len(columns)), 2.2 + 0.85 * len(rows)) as figure:
        axes = figure.subplots()
        for cell in cells:
            _cell(axes, cell, columns.index(cell.bandwidth), rows.index(cell.severity), palette)
        axes.grid(False)
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
        axes.set_xticks(range(len(columns)), [f"{size(value)}/s" for value in columns])
        axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="bandwidth of rank 0's link, each way", ylabel=axis)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")  # also spans the legend
        axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="first")
    return figure


def _cell(axes: Axes, cell: MapCell, x: int, y: int, palette: dict[str, str]) -> None:
    """Draw a cell in the colour of its best scheme, with name, lead and multiple of the oracle's time."""

    pale = not cell.factor >= PALE
    whiter = 0.55 if pale else 0.0
    colour = [part + whiter * (1 - part) for part in to_rgb(palette.get(cell.best, "#FFFFFF"))]
    axes.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, edgecolor="none"))
    ink = "white" if palette.get(cell.best) in DARK and not pale else INK
    centred: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    axes.text(x, y + 0.24, cell.best or NONE_REACHED, fontsize=11, **centred)
    axes.text(x, y - 0.04, format_lead(cell), fontsize=13, weight="bold", **centred)
    axes.text(x, y - 0.31, format_oracle(cell), fontsize=9, **centred)


def numbers(name: str, text: str | None, default: Sequence[float], least: float) -> list[float]:
    """Parse and sort the comma-separated numbers of an option."""
    if text is None:
        return list(default)
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--{name} {text}: expected numbers, such as 1e6,1e8") from None
    if not all(least <= value <= 1e18 for value in values):
        raise InputError(f"--{name} {text}: expected numbers from {least:g} to 1e18")
    return values


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="A map of the fastest schemes over bandwidths and delays.")
    option = parser.add_argument
    option("config", nargs="?", help="TOML file (default: jobs/digits.toml to a training loss of 0.1)")
    option("--trace", help="map with the delays, machine and link of this recorded run")
    option("--target", type=float, help="training loss to reach (instead of [stop])")
    option("-n", "--workers", type=int, help="number of workers (instead of workers.count)")
    option("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key; may be repeated")
    option("--seeds", type=int, default=2, help="runs per scheme and cell (default: 2)")
    option("--processes", type=int, help="number of processes (default: one per core)")
    option("--figure", help="default: results/<name>.map.png")
    option("--bandwidths", metavar="B,B,…", help="bytes/s of rank 0's link (default: 1e5,1e6,1e7,1e8,1e9)")
    what = (
        "multiples of the configuration's delays, 0 for none (default: 0,0.25,1,4,16; with --trace "
        "0,1,2,4,8); without [stragglers]: mean exponential delay, in gradient compute times"
    )
    option("--severities", metavar="S,S,…", help=what)
    option("--quick", action="store_true", help="a small network and two cells, to show that it runs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Rank the schemes over the grid; print and draw the map."""
    options = parse(arguments)
    path = options.config or str(Path(__file__).parents[1] / "jobs" / "digits.toml")
    settings = configs.overrides(options.set, options.workers)
    if options.quick:
        settings += ["problem.hidden=[8]", "stop.loss=2.2", "problem.evaluate=100"]
        options.bandwidths, options.severities, options.seeds = "1e6,1e9", "0", 1
    elif options.config is None:
        settings.append("stop.loss=0.1")
    figure = options.figure or str(Path("results") / f"{Path(path).stem}.map.png")
    try:
        style.ensure_figure_can_be_drawn(figure)
        environment = search.load_environment(path, settings, options.trace, options.target)
        config, kind = environment.config, environment.config.stragglers.kind
        defaults = RECORDED if kind == "trace" else SEVERITIES
        grid = Grid(
            numbers("bandwidths", options.bandwidths, BANDWIDTHS, 1.0),
            numbers("severities", options.severities, defaults, 0.0),
        )
        print(f"target: {environment.goal} ({environment.goal.source}); {config.workers.count} workers")
        with Pool(options.processes) as pool:
            seeds = range(config.seed, config.seed + options.seeds)
            arrivals = 100 if options.quick else ARRIVALS
            cells, names = map_cells(environment, grid, seeds, pool, arrivals)
    except InputError as error:
        print(f"schemes_map: {error}", file=sys.stderr)
        return 2
    delays = "mean delay, × compute time of a gradient"
    axis = delays if kind == "none" else "delays, × the delays of the configuration"
    title = f"Fastest to {environment.goal}, and by what factor; {config.workers.count} workers"
    print()
    show(cells, grid, title, axis)
    style.save(draw_map(cells, grid, names, title, axis), figure)
    print(f"figure: {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
