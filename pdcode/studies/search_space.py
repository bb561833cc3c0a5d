"""The space that `pdcode plan` searches: the portfolio, and configurations drawn at random.

Problem, workers, stop, stragglers, machine and link are fixed. Scheme, code, decoder, memory, wire, downlink,
reduce, update and learning rate vary. Each draw is keyed by (seed, number), so that a longer list extends a
shorter one.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from ..choice.preset import prepare
from ..config import AUTO, Config, MemoryTable, OptimizerTable, UpdateTable, defaults, kinds
from ..config import load as configfile
from ..config.write import to_toml
from ..schemes.rate_laws import longest_rate
from ..session import setup
from ..util.errors import InputError
from . import portfolio
from .candidate import DRAWN, OWN, VARIED, Candidate, identity
from .knobs import changed, knobs, set_keys
from .learning_rates import converted, has_rate, rate_of, with_rate
from .named_candidates import named_candidates
from .trial import data_source
from .tuning import tunable

Tables = dict[str, dict[str, Any]]
Value = TypeVar("Value")

SPACING = 4.0  # factor between the learning rates of a scheme in the first rung
RIVALS = 0.2  # fraction of draws that are other schemes, with their own tables
TRIES = 40  # maximum number of draws per requested candidate

BLANK: Tables = {"scheme": {"name": "lwpd"}} | {name: {} for name in VARIED[1:]}


def candidates(base: Config, count: int | None, seed: int, path: str = "") -> list[Candidate]:
    """List distinct schemes that `pdcode run` accepts: the user's own, the portfolio's, then draws.

    Without `count` there are no draws, which `seed` keys.
    """
    setup.prepare(base, path)
    listed = {identity(base): Candidate(OWN, base)}
    for candidate in of_portfolio(base):
        listed.setdefault(identity(candidate.config), candidate)
    for number in range(TRIES * (count or 0)):
        if len(listed) >= (count or 0):
            break
        tables = draw_tables(base, np.random.default_rng((seed, number)))
        if drawn := make_candidate(base, f"{DRAWN} {number}", tables):
            listed.setdefault(identity(drawn.config), drawn)
    return list(listed.values())[:count]


def of_portfolio(base: Config) -> list[Candidate]:
    """Return the entrants of the portfolio that can run in place of a configuration, by their labels.

    They are the candidates of `pdcode compare`, with the configuration's stop. With a penalty,
    candidates whose optimizer has none are left out.
    """
    own, labels = chosen(base), portfolio.labels()
    tables = configfile.parse(to_toml(own))
    if own.scheme.preset is not None or own.optimizer.kind != "sgd":  # not for all entrants
        tables = defaults.without_filled(tables)
    if not own.optimizer.linear:  # its rate says nothing of steps by gradients
        own = msgspec.structs.replace(own, optimizer=OptimizerTable.of({"rate": AUTO}))
    made = named_candidates(tables, [], Path(), ",".join(labels), unfit=[], own=own)
    return [
        replace(each, name=labels[each.name], config=msgspec.structs.replace(each.config, stop=base.stop))
        for each in made
        if each.config.optimizer.proximal == base.optimizer.proximal
    ]


def at_rates(candidate: Candidate, factors: Sequence[float]) -> Iterator[Candidate]:
    """Yield the candidate with its learning rate multiplied by each factor."""
    own = replace(candidate, config=chosen(candidate.config))
    for factor in factors:
        yield replace(own.at(own.rate * factor), multiple=own.multiple * factor)


def neighbours(candidate: Candidate, factor: float, every: bool = False) -> Iterator[Candidate]:
    """Yield the candidate with a shorter and a longer rate, and with each option of its scheme changed.

    These are the values beside its own of those that the options list as `candidates`. With `every` other
    knobs are changed, too, such as momentum and wire format.
    """
    yield from at_rates(candidate, (1 / factor, factor))
    if candidate.name == OWN:
        return
    for knob in tunable(candidate):
        place = knob.place_in(candidate.config)
        for near in (place - 1, place + 1):
            wanted = every or knob.keys[0].startswith("scheme.options.")
            if not wanted or not 0 <= near < len(knob.values):
                continue
            settings = knob.settings(near)
            try:
                config = changed(candidate.config, settings)
                setup.prepare(config, source=data_source(config))
            except InputError:  # options that do not go together
                continue
            yield replace(candidate, config=config, changed={**candidate.changed, **settings})


def make_candidate(base: Config, name: str, tables: Tables) -> Candidate | None:
    """Return the candidate with these tables, or None if `pdcode run` refuses it."""
    try:
        config = apply_tables(base, tables)
        setup.prepare(config, source=data_source(config))
    except InputError:
        return None
    return Candidate(name, config)


def apply_tables(base: Config, tables: Mapping[str, Mapping[str, Any]]) -> Config:
    """Replace tables of the user's configuration, and convert the learning rate accordingly."""
    base = chosen(base)
    before = msgspec.to_builtins(base)
    built = before | {name: dict(table) for name, table in tables.items()}
    if "optimizer" not in tables and MemoryTable.of(built["memory"]).has_residual:
        built["optimizer"]["staleness"] = "constant"
    if penalty := before["optimizer"].get("proximal"):
        built["optimizer"]["proximal"] = penalty
    config = Config.of(built)
    if has_rate(tables):
        config = with_rate(config, min(rate_of(config), longest_rate(config)))
    else:
        config = converted(config, base)
    configfile.check_consistency(config)
    return config


def chosen(config: Config) -> Config:
    """Return the configuration with the tables of the preset that "auto" chooses, if it has that."""
    return _chosen(msgspec.json.encode(config)) if config.scheme.is_auto else config


@functools.lru_cache(4)
def _chosen(key: bytes) -> Config:
    config = Config.of(msgspec.json.decode(key))
    return prepare(config, source=data_source(config)).config


def preset(scheme: str, name: str | None = None) -> Tables:
    """Return the tables of a scheme or preset; other tables that vary have their defaults."""
    kind = kinds.find("schemes", scheme)
    given = kind.tables if name is None else kind.presets[name]
    own = {table: dict(given[table]) for table in (*VARIED, "optimizer") if table in given}
    return BLANK | own | {"scheme": {"name": scheme, **given.get("scheme", {})}}


def drawn_schemes() -> list[str]:
    """List the schemes that are drawn with their own tables."""
    return [name for name in kinds.names("schemes") if name not in ("lwpd", "uncoded")]


def draw_knobs(base: Config, tables: Tables, random: np.random.Generator) -> Tables:
    """Draw values of the knobs of a configuration with these tables."""
    try:
        found = knobs(apply_tables(base, tables))
    except InputError:
        return tables
    for knob in found:
        settings = knob.settings(draw_value(random, range(len(knob.values)), [1] * len(knob.values)))
        tables = set_keys(tables, settings)
    return tables


def draw_value(random: np.random.Generator, values: Sequence[Value], weights: Sequence[float]) -> Value:
    """Draw one of the values with probabilities proportional to the weights."""
    edges = np.cumsum(weights) / sum(weights)
    return values[min(int(np.searchsorted(edges, random.random(), side="right")), len(values) - 1)]


def draw_tables(base: Config, random: np.random.Generator) -> Tables:
    """Draw the tables of a scheme, which may be inconsistent."""
    if random.random() < RIVALS:
        names = drawn_schemes()
        return draw_knobs(base, preset(draw_value(random, names, [1] * len(names))), random)
    families = "net", "auto", "matched", "energy", "hadamard", "uncoded"
    family = draw_value(random, families, (4, 2, 4, 1, 1, 3))
    memory = draw_value(random, ("none", "worker", "difference", "coordinator"), (2, 6, 1, 1))
    tables = BLANK | {
        "code": _code(base, family, random),
        "memory": {"kind": memory},
        "downlink": {"kind": draw_value(random, ("full", "exchange"), (1, 1))},
        "update": _update(random),
    }
    several = not UpdateTable.of(tables["update"]).asynchronous
    if memory == "none" and several and family not in ("uncoded", "matched"):
        tables["decoder"] = {"kind": draw_value(random, (None, "least_squares"), (1, 1))}
    if family == "uncoded":
        tables["scheme"] = {"name": "uncoded"}
    return draw_knobs(base, tables, random)


def _code(base: Config, family: str, random: np.random.Generator) -> dict[str, Any]:
    """Draw the table ``[code]``."""
    if family == "uncoded":
        return {"family": family, "blocks": 1, "rotate": False}
    hidden = len(getattr(base.problem, "hidden", None) or ()) if base.problem.deep else 0
    k = draw_value(random, ("units", 4, 8, 16, 32, 64, 128), (4, 1, 1, 1, 1, 1, 1))
    code: dict[str, Any] = {"family": family}
    # The output layer is small: coding its blocks would cost more than it saves.
    code["blocks"] = k if k == "units" or not hidden else [k] * hidden + [1]
    if family == "matched":
        code["weight"] = draw_value(random, (8, 16, 32), (1, 2, 2))
        code["rows_per_task"] = draw_value(random, (1, 2, 4, 8), (1, 2, 2, 1))
        return code
    if family != "hadamard":  # its rows are dense
        code["weight"] = draw_value(random, (2, 4, 8), (1, 3, 1))
    code["share"] = draw_value(random, (1 / 16, 1 / 8, 1 / 4, 1 / 2), (1, 2, 2, 1))
    return code


def _update(random: np.random.Generator) -> dict[str, Any]:
    """Draw the table ``[update]``, but for its knobs."""
    mode = draw_value(random, ("async", "first", "captured", "all"), (4, 4, 1, 1))
    late = {"late": draw_value(random, ("use", "waste"), (3, 1))} if mode in ("first", "captured") else {}
    return {"mode": mode, **late}
