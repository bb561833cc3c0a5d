"""Candidates: alternatives to the user's configuration.

Problem, workers, stop, stragglers, machine and link are fixed. Scheme, code, decoder, memory, wire, downlink,
reduce, update and step size vary. Each draw is keyed by (seed, number): a longer list extends a shorter one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np

from ..coding import auto_keys
from ..config import Config, MemoryTable, SchemeTable, UpdateTable, kinds
from ..config import load as configfile
from ..config.defaults import explicit
from ..problems import Problem
from ..training import setup
from ..util.errors import InputError
from .trial import source

Tables = dict[str, dict[str, Any]]
Value = TypeVar("Value")

OWN = "yours"
DRAWN = "drawn"
VARIED = ("scheme", "code", "decoder", "memory", "wire", "downlink", "reduce", "update")  # whole tables
MULTIPLES = (0.5, 1.0, 2.0, 4.0)  # multiples of the user's step size
RIVALS = 0.2  # share of draws that are other schemes, with their own tables
TRIES = 40  # maximum number of draws per requested candidate

BLANK: Tables = {"scheme": {"name": "lwpd"}} | {name: {} for name in VARIED[1:]}


@dataclass(frozen=True)
class Candidate:
    """An alternative to the user's configuration."""

    name: str  # `OWN`, the name of a preset or of an uncoded scheme, or `DRAWN`
    multiple: float  # step size as a multiple of the user's, see `base_rate`
    config: Config

    @property
    def own(self) -> bool:
        """Whether this is the user's own configuration."""
        return self.name == OWN and self.multiple == 1

    @property
    def title(self) -> str:
        """Name, and for a named scheme the multiple of the step size unless it is 1."""
        return self.name + (f", rate ×{self.multiple:g}" if self.name != DRAWN and self.multiple != 1 else "")

    def __str__(self) -> str:
        return f"{self.title}: {summary(self.config)}"


def candidates(base: Config, count: int, seed: int, path: str = "") -> list[Candidate]:
    """List distinct candidates that `pdcode run` accepts: the user's own, the named schemes, then draws.

    Parameters
    ----------
    base : Config
        The user's configuration.
    count : int
        Number of candidates. All named schemes with the user's step size are listed even if there are more.
    seed : int
        Key of the draws.
    path : str
        File of the configuration, for error messages.

    Raises
    ------
    InputError
        If the user's configuration cannot run.
    """
    setup.prepare(base, path)
    listed = [Candidate(OWN, 1.0, base)]
    seen = {identity(base)}

    def offer(name: str, tables: Tables, multiple: float) -> None:
        candidate = offered(base, name, tables, multiple)
        if candidate is not None and identity(candidate.config) not in seen:
            seen.add(identity(candidate.config))
            listed.append(candidate)

    fixed = named(base)
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
        offer(DRAWN, draw_tables(base, random), pick(random, MULTIPLES, (1, 2, 2, 1)))
    return listed


def identity(config: Config) -> bytes:
    """Return a key of everything that a descent depends on, with dependent defaults resolved."""
    scheme = config.scheme
    named = scheme.name not in ("lwpd", "uncoded")  # their tables determine these
    scheme = msgspec.structs.replace(scheme, preset=None) if named else SchemeTable.of({})
    return msgspec.json.encode(msgspec.structs.replace(explicit(config), scheme=scheme))


def offered(base: Config, name: str, tables: Tables, multiple: float) -> Candidate | None:
    """Make the candidate with these tables; return None if `pdcode run` refuses it."""
    try:
        config = apply(base, tables, multiple)
        setup.prepare(config, source=source(config))
    except InputError:
        return None
    return Candidate(name, multiple, config)


def apply(base: Config, tables: Mapping[str, Mapping[str, Any]], multiple: float = 1.0) -> Config:
    """Replace tables of the user's configuration, and scale the step size accordingly.

    Raises
    ------
    InputError
        If the tables contradict each other.
    """
    config = base
    if tables:
        built = msgspec.to_builtins(base) | {name: dict(table) for name, table in tables.items()}
        if "optimizer" not in tables and MemoryTable.of(built["memory"]).keeps:
            built["optimizer"]["staleness"] = "constant"
        config = Config.of(built)
    if has_rate(tables):
        config = with_rate(config, multiple * rate_of(config))
        configfile.check_consistency(config)
        return config
    if multiple == 1 and not tables:
        return base
    rate = multiple * base_rate(base) * own_rate(config)
    optimizer = msgspec.structs.replace(config.optimizer, rate=float(f"{rate:.4g}"))
    config = msgspec.structs.replace(config, optimizer=optimizer)
    configfile.check_consistency(config)
    return config


def has_rate(tables: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether the tables of a scheme or preset have a learning rate of their own."""
    return "rate" in tables.get("optimizer", {})


def rate_key(config: Config) -> list[str]:
    """Return the path of the learning rate that matters most to a configuration's scheme."""
    own = hasattr(config.scheme.options, "rate")
    return ["scheme", "options", "rate"] if own else ["optimizer", "rate"]


def rate_of(config: Config) -> float:
    """Return the learning rate that matters most."""
    value: Any = config
    for key in rate_key(config):
        value = getattr(value, key)
    return float(value)


def with_rate(config: Config, rate: float) -> Config:
    """Return the configuration with another value of the learning rate that matters most."""
    return _replaced(config, rate_key(config), float(f"{rate:.4g}"))


def _replaced(table: Any, keys: Sequence[str], value: float) -> Any:
    first, *rest = keys
    inner = _replaced(getattr(table, first), rest, value) if rest else value
    return msgspec.structs.replace(table, **{first: inner})


def base_rate(base: Config) -> float:
    """Convert the user's step size to that of a step by the plain gradient of all n workers' replies.

    In `async` mode an arrival is scaled by 1/n with memory ``worker``, and is a full step otherwise. A
    momentum β makes steps 1/(1 - β) times as long. Rates of whitened gradients have no dimension: they are
    converted by lengths, see `coding.auto_keys.plain_rate`.
    """
    return base.optimizer.rate / own_rate(base)


def own_rate(config: Config) -> float:
    """Return the learning rate of a configuration that stands for 1 in the sense of `base_rate`."""
    rate = 1.0 if whole_step(config) else 1.0 / config.workers.count
    rate *= 1 - config.optimizer.momentum
    return (
        rate
        if config.code.whiten == "none"
        else rate / _plain_rate(msgspec.json.encode((config.problem, config.code.whiten)))
    )


@functools.lru_cache(16)
def _plain_rate(key: bytes) -> float:
    table, whiten = msgspec.json.decode(key)
    config = Config.of({"problem": table, "code": {"whiten": whiten}})
    problem = Problem.from_dataset(config.problem, source(config).dataset)
    return auto_keys.plain_rate(config, problem)


def whole_step(config: Config) -> bool:
    """Tell whether a step moves θ by a whole learning rate, not by 1/n of it for each arrival."""
    return not config.update.asynchronous or config.memory.kind == "worker"


def named(base: Config) -> dict[str, Tables]:
    """List the presets of schemes for this problem, by name; uncoded in other formats is left to draws."""
    found = {}
    for scheme in "lwpd", "topk", "uncoded":
        for name, tables in kinds.find("schemes", scheme).presets.items():
            if (name == "shards" and base.problem.batch) or (scheme == "uncoded" and "wire" in tables):
                continue
            found[f"{'preset' if scheme == 'lwpd' else scheme} {name}"] = preset(scheme, name)
    return found


def preset(scheme: str, name: str | None = None) -> Tables:
    """Return the tables of a scheme or preset; those that vary and are not in it have their defaults."""
    kind = kinds.find("schemes", scheme)
    given = kind.tables if name is None else kind.presets[name]
    own = {table: dict(given[table]) for table in (*VARIED, "optimizer") if table in given}
    return BLANK | own | {"scheme": {"name": scheme, **given.get("scheme", {})}}


def rivals() -> list[str]:
    """List the schemes of the registry that are drawn as they are."""
    return [name for name in kinds.names("schemes") if name not in ("lwpd", "uncoded")]


def with_options(tables: Tables, random: np.random.Generator) -> Tables:
    """Draw the scheme's options among its candidates."""
    scheme = tables["scheme"]
    candidates = kinds.find("schemes", scheme["name"]).candidates
    options = {key: pick(random, values, [1] * len(values)) for key, values in candidates.items()}
    return tables | {"scheme": scheme | {"options": options}} if options else tables


def pick(random: np.random.Generator, values: Sequence[Value], weights: Sequence[float]) -> Value:
    """Draw one of the values with probabilities proportional to the weights."""
    edges = np.cumsum(weights) / sum(weights)
    return values[min(int(np.searchsorted(edges, random.random(), side="right")), len(values) - 1)]


def draw_tables(base: Config, random: np.random.Generator) -> Tables:
    """Draw the tables of a scheme; they may contradict each other."""
    if random.random() < RIVALS:
        names = rivals()
        return with_options(preset(pick(random, names, [1] * len(names))), random)
    families = "net", "auto", "matched", "energy", "hadamard", "uncoded"
    family = pick(random, families, (4, 2, 4, 1, 1, 3))
    memory = pick(random, ("none", "worker", "difference", "coordinator"), (2, 6, 1, 1))
    whiten = "auto" if base.problem.batch and pick(random, (True, False), (1, 1)) else "none"
    lookahead = {"lookahead": pick(random, (0.0, "auto"), (1, 1))} if memory == "worker" else {}
    wires = (None, "bfloat16", "float16", "int8", "int2")
    tables = BLANK | {
        "code": {**_code(base, family, random), "whiten": whiten},
        "memory": {"kind": memory, **lookahead},
        "wire": {"dtype": pick(random, wires, (2, 1, 1, 2, 2))},
        "downlink": {"kind": pick(random, ("full", "exchange"), (1, 1))},
        "update": _update(base.workers.count, random),
    }
    several = not UpdateTable.of(tables["update"]).asynchronous
    if memory == "none" and several and family not in ("uncoded", "matched"):
        tables["decoder"] = {"kind": pick(random, (None, "least_squares"), (1, 1))}
    if family == "uncoded":
        tables["scheme"] = {"name": "uncoded"}
    return tables


def _code(base: Config, family: str, random: np.random.Generator) -> dict[str, Any]:
    """Draw the table ``[code]``."""
    if family == "uncoded":
        return {"family": family, "blocks": 1, "rotate": False}
    hidden = len(base.problem.hidden) if base.problem.deep else 0
    k = pick(random, ("units", 4, 8, 16, 32, 64, 128), (4, 1, 1, 1, 1, 1, 1))
    code: dict[str, Any] = {"family": family}
    # The output layer is small: coding its blocks would cost more than it saves.
    code["blocks"] = k if k == "units" or not hidden else [k] * hidden + [1]
    if family == "matched":
        code["weight"] = pick(random, (8, 16, 32), (1, 2, 2))
        code["rows_per_task"] = pick(random, (1, 2, 4, 8), (1, 2, 2, 1))
        return code
    if family != "hadamard":  # its rows are dense
        code["weight"] = pick(random, (2, 4, 8), (1, 3, 1))
    code["share"] = pick(random, (1 / 16, 1 / 8, 1 / 4, 1 / 2), (1, 2, 2, 1))
    return code


def _update(workers: int, random: np.random.Generator) -> dict[str, Any]:
    """Draw the table ``[update]``."""
    modes = ("async", ""), ("first", "count"), ("captured", "fraction"), ("all", "")
    mode, key = pick(random, modes, (4, 4, 1, 1))
    share = pick(random, (0.5, 0.75, 0.9), (1, 2, 1))
    if not key:
        return {"mode": mode}
    amount = share if key == "fraction" else max(1, round(share * workers))
    return {"mode": mode, key: amount, "late": pick(random, ("use", "waste"), (3, 1))}


def summary(config: Config) -> str:
    """Describe a scheme in one line: code, memory, messages, updates, step size."""
    code, update = config.code, config.update
    if code.family == "uncoded":
        coded = "uncoded"
    else:
        rows = (
            f"share {code.share:.3g}" if code.share is not None else f"r={_joined(code.rows_per_task or 1)}"
        )
        given = getattr(code, "weight", None)
        weight = "" if given is None else f" w={_joined(given)}"
        coded = f"{code.family} k={_joined(code.blocks)}{weight} {rows}"
    parts = [
        config.scheme.name if config.scheme.name not in ("lwpd", "uncoded") else coded,
        {"gram": "whitened", "auto": "whitened", "norm": "normed"}.get(code.whiten, ""),
        f"memory {config.memory.kind}" if config.memory.kind != "none" else "",
        f"look-ahead {ahead}" if (ahead := config.memory.lookahead) else "",
        config.decoder.kind if config.decoder.kind != config.memory.decoder else "",
        "/".join(config.wire.formats),
        {"codewords": "codewords down", "exchange": "exchanged"}.get(config.downlink.kind, ""),
        update.words(config.workers.count).partition(" of ")[0],
        "allreduce" if config.reduce.summed else "",
        "late wasted" if update.late == "waste" and not (update.asynchronous or update.complete) else "",
        f"rate {config.optimizer.rate:.3g}",
    ]
    return ", ".join(filter(None, parts))


def _joined(value: int | str | list[int]) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
