"""The space that `pdcode plan` searches: presets, other schemes, and configurations drawn at random.

Problem, workers, stop, stragglers, machine and link are fixed. Scheme, code, decoder, memory, wire, downlink,
reduce, update and learning rate vary. Each draw is keyed by (seed, number), so that a longer list extends a
shorter one.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from ..config import Config, MemoryTable, UpdateTable, kinds
from ..config import load as configfile
from ..config.defaults import longest_rate
from ..training import setup
from ..util.errors import InputError
from ..virtual import choice
from .candidate import DRAWN, OWN, VARIED, Candidate, identity
from .knobs import knobs, set_keys
from .learning_rates import converted, has_rate, rate_of, with_rate
from .trial import data_source

Tables = dict[str, dict[str, Any]]
Value = TypeVar("Value")

MULTIPLES = (0.5, 1.0, 2.0, 4.0)  # multiples of the user's learning rate
RIVALS = 0.2  # fraction of draws that are other schemes, with their own tables
TRIES = 40  # maximum number of draws per requested candidate

BLANK: Tables = {"scheme": {"name": "lwpd"}} | {name: {} for name in VARIED[1:]}


def candidates(base: Config, count: int, seed: int, path: str = "") -> list[Candidate]:
    """List distinct candidates that `pdcode run` accepts: the user's own, the named schemes, then draws.

    All named schemes with the user's learning rate are listed, even if there are more than `count`. Draws are
    keyed by `seed`.
    """
    setup.prepare(base, path)
    listed = [Candidate(OWN, base)]
    seen = {identity(base)}

    def offer(name: str, tables: Tables, multiple: float) -> None:
        candidate = make_candidate(base, name, tables, multiple)
        if candidate is not None and identity(candidate.config) not in seen:
            seen.add(identity(candidate.config))
            listed.append(candidate)

    fixed = named_tables(base)
    for name, tables in fixed.items():
        offer(name, tables, 1.0)
    for multiple in (2.0, 0.5):
        for name, tables in {OWN: {}, **fixed}.items():
            if len(listed) < count and (multiple > 1 or name == OWN):
                offer(name, tables, multiple)
    for number in range(TRIES * count):
        if len(listed) >= count:
            break
        random = np.random.default_rng((seed, number))
        offer(DRAWN, draw_tables(base, random), draw_value(random, MULTIPLES, (1, 2, 2, 1)))
    return listed


def make_candidate(base: Config, name: str, tables: Tables, multiple: float) -> Candidate | None:
    """Return the candidate with these tables, or None if `pdcode run` refuses it."""
    try:
        config = apply_tables(base, tables, multiple)
        setup.prepare(config, source=data_source(config))
    except InputError:
        return None
    return Candidate(name, config, multiple)


def apply_tables(base: Config, tables: Mapping[str, Mapping[str, Any]], multiple: float = 1.0) -> Config:
    """Replace tables of the user's configuration, and scale the learning rate accordingly."""
    if multiple == 1 and not tables:
        return base
    config = base = chosen(base)
    if tables:
        built = msgspec.to_builtins(base) | {name: dict(table) for name, table in tables.items()}
        if "optimizer" not in tables and MemoryTable.of(built["memory"]).has_residual:
            built["optimizer"]["staleness"] = "constant"
        config = Config.of(built)
    if has_rate(tables):
        config = with_rate(config, multiple * min(rate_of(config), longest_rate(config)))
    else:
        config = converted(config, base, multiple)
    configfile.check_consistency(config)
    return config


def chosen(config: Config) -> Config:
    """Return the configuration with the tables of the preset that "auto" chooses, if it has that."""
    return _chosen(msgspec.json.encode(config)) if config.scheme.is_auto else config


@functools.lru_cache(4)
def _chosen(key: bytes) -> Config:
    config = Config.of(msgspec.json.decode(key))
    return choice.prepare(config, source=data_source(config)).config


def named_tables(base: Config) -> dict[str, Tables]:
    """Return the presets for this problem by name; uncoded ones in other wire formats are left to draws."""
    found = {}
    for scheme in "lwpd", "topk", "uncoded":
        for name, tables in kinds.find("schemes", scheme).presets.items():
            unfit = (name == "shards" and base.problem.batch) or name.endswith("-regression")
            if unfit or (scheme == "uncoded" and "wire" in tables):
                continue
            found[f"{'preset' if scheme == 'lwpd' else scheme} {name}"] = preset(scheme, name)
    return found


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
