"""Candidates: what could run in place of the user's configuration.

Problem, workers, stop, stragglers, machine and link stay as they are. Scheme, code, decoder, memory, wire,
downlink, update and step size vary; each draw is keyed by (seed, number), so more candidates begin with the
same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np

from ..config import kinds
from ..config import load as configfile
from ..config.tables import Config, Memory, Scheme
from ..training import setup as parts
from ..training.policies import wanted
from ..util.errors import InputError
from .trials import source

Tables = dict[str, dict[str, Any]]
Value = TypeVar("Value")

OWN = "yours"
DRAWN = "drawn"
VARIED = ("scheme", "code", "decoder", "memory", "wire", "downlink", "update")  # whole tables
MULTIPLES = (0.5, 1.0, 2.0, 4.0)  # of the user's step size
TRIES = 40  # draws a candidate that is wanted

UNCODED: Tables = {
    "scheme": {"name": "uncoded"},
    **{name: dict(table) for name, table in kinds.find("schemes", "uncoded").tables.items()},
    "decoder": {},
    "wire": {},
    "downlink": {},
}
BLANK: Tables = {"scheme": {"name": "lwpd"}} | {name: {} for name in VARIED[1:]}


@dataclass(frozen=True)
class Candidate:
    """A configuration that could run in place of the user's.

    Attributes
    ----------
    name : str
        ``yours``, that of a preset or of a known scheme, or ``drawn``.
    multiple : float
        Of the user's step size, see `base_rate`.
    config : Config
    """

    name: str
    multiple: float
    config: Config

    @property
    def own(self) -> bool:
        return self.name == OWN and self.multiple == 1


def candidates(base: Config, count: int, seed: int, path: str = "") -> list[Candidate]:
    """So many candidates, the user's own first; the presets and the uncoded schemes are among them.

    Those that `pdcode run` would refuse are never offered, nor one twice.

    Parameters
    ----------
    base : Config
        The user's.
    count : int
        How many. All named ones with the user's step size are offered even if they are more.
    seed : int
    path : str
        Of the configuration, for the error where it is refused itself.

    Raises
    ------
    InputError
        If the user's configuration cannot run.
    """
    parts.prepare(base, path)
    found = [Candidate(OWN, 1.0, base)]
    seen = {identity(base)}

    def offer(name: str, tables: Tables, multiple: float) -> None:
        candidate = offered(base, name, tables, multiple)
        if candidate is not None and identity(candidate.config) not in seen:
            seen.add(identity(candidate.config))
            found.append(candidate)

    fixed = named(base)
    for name, tables in fixed.items():
        offer(name, tables, 1.0)
    for multiple in (2.0, 0.5):
        for name, tables in {OWN: {}, **fixed}.items():
            if len(found) < count and (multiple > 1 or name == OWN):
                offer(name, tables, multiple)
    for number in range(TRIES * count):
        if len(found) >= count:
            break
        random = np.random.default_rng((seed, number))
        offer(DRAWN, draw(base, random), pick(random, MULTIPLES, (1, 2, 2, 1)))
    return found


def identity(config: Config) -> bytes:
    """What a descent depends on: defaults that depend on other keys are written out."""
    update, wire = config.update, config.wire
    if update.mode == "first":
        update = msgspec.structs.replace(update, count=wanted(update, config.workers.count))
    if wire.dtype is None:
        wire = msgspec.structs.replace(wire, dtype=config.problem.dtype)
    tables = {"update": update, "wire": wire, "scheme": Scheme.of({})}
    return msgspec.json.encode(msgspec.structs.replace(config, **tables))


def offered(base: Config, name: str, tables: Tables, multiple: float) -> Candidate | None:
    """The candidate with these tables, if `pdcode run` would take it."""
    try:
        config = apply(base, tables, multiple)
        parts.prepare(config, source=source(config))
    except InputError:
        return None
    return Candidate(name, multiple, config)


def apply(base: Config, tables: Mapping[str, Mapping[str, Any]], multiple: float = 1.0) -> Config:
    """The user's configuration with other tables, and the step size that they ask for.

    Raises
    ------
    InputError
        If the tables contradict each other.
    """
    config = base
    if tables:
        built = msgspec.to_builtins(base) | {name: dict(table) for name, table in tables.items()}
        if Memory.of(built["memory"]).keeps:
            built["optimizer"]["staleness"] = "constant"
        config = Config.of(built)
    rate = multiple * base_rate(base) * (1.0 if _whole_step(config) else 1.0 / config.workers.count)
    if multiple == 1 and not tables:
        return base
    optimizer = msgspec.structs.replace(config.optimizer, rate=float(f"{rate:.4g}"))
    config = msgspec.structs.replace(config, optimizer=optimizer)
    configfile.check(config)
    return config


def base_rate(base: Config) -> float:
    """The user's step size as that of a whole step: one for which all n workers have been heard.

    Under `async` an arrival is worth 1/n of it with memory ``worker``, as the decoder divides by n, and is a
    whole step otherwise: `config.Optimizer`.
    """
    return base.optimizer.rate * (1.0 if _whole_step(base) else base.workers.count)


def _whole_step(config: Config) -> bool:
    return config.update.mode != "async" or config.memory.kind == "worker"


def named(base: Config) -> dict[str, Tables]:
    """Presets and known schemes, for this problem."""
    presets = ["default", "starved"] + ["shards"] * (base.problem.batch == 0)
    found: dict[str, Tables] = {}
    for preset in presets:
        tables = kinds.find("schemes", "lwpd").presets[preset]
        found[f"preset {preset}"] = BLANK | {
            name: dict(table) for name, table in tables.items() if name != "problem"
        }
    for mode in ("all", "first", "async"):
        found[f"uncoded {mode}"] = UNCODED | {"update": {"mode": mode}}
    return found


def pick(random: np.random.Generator, values: Sequence[Value], weights: Sequence[float]) -> Value:
    """One of the values, with chances in proportion to the weights."""
    edges = np.cumsum(weights) / sum(weights)
    return values[min(int(np.searchsorted(edges, random.random(), side="right")), len(values) - 1)]


def draw(base: Config, random: np.random.Generator) -> Tables:
    """Tables of a scheme at random; they may contradict each other."""
    families = "net", "auto", "matched", "energy", "hadamard", "uncoded"
    family = pick(random, families, (4, 2, 4, 1, 1, 3))
    memory = pick(random, ("none", "worker", "difference", "coordinator"), (2, 6, 1, 1))
    wires = (None, "bfloat16", "float16", "int8")
    tables = BLANK | {
        "code": _code(base, family, random),
        "memory": {"kind": memory},
        "wire": {"dtype": pick(random, wires, (2, 1, 1, 4))},
        "downlink": {"kind": pick(random, ("full", "codewords"), (1, 1))},
        "update": _update(base.workers.count, random),
    }
    if memory == "none" and tables["update"]["mode"] != "async" and family not in ("uncoded", "matched"):
        tables["decoder"] = {"kind": pick(random, (None, "least_squares"), (1, 1))}
    if family == "uncoded":
        tables["scheme"] = {"name": "uncoded"}
    return tables


def _code(base: Config, family: str, random: np.random.Generator) -> dict[str, Any]:
    """The table ``[code]``."""
    if family == "uncoded":
        return {"family": family, "blocks": 1, "rotate": False}
    hidden = len(base.problem.hidden) if base.problem.deep else 0
    k = pick(random, ("units", 4, 8, 16, 32, 64, 128), (4, 1, 1, 1, 1, 1, 1))
    code: dict[str, Any] = {"family": family}
    # The output layer is small: its blocks would be smaller than what they cost.
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
    """The table ``[update]``."""
    mode = pick(random, ("async", "first", "captured", "all"), (4, 4, 1, 1))
    share = pick(random, (0.5, 0.75, 0.9), (1, 2, 1))
    update: dict[str, Any] = {"mode": mode}
    if mode == "first":
        update["count"] = max(1, round(share * workers))
    elif mode == "captured":
        update["fraction"] = share
    if mode in ("first", "captured"):
        update["late"] = pick(random, ("use", "waste"), (3, 1))
    return update


def in_words(candidate: Candidate) -> Iterator[str]:
    """What it is, in a few words each: codes, memory, messages, updates, step size."""
    config = candidate.config
    code = config.code
    if code.family == "uncoded":
        yield "uncoded"
    else:
        k = code.blocks if isinstance(code.blocks, str | int) else "/".join(map(str, code.blocks))
        rows = (
            f"share {code.share:.3g}" if code.share is not None else f"r={_listed(code.rows_per_task or 1)}"
        )
        given = getattr(code, "weight", None)
        weight = "" if given is None else f" w={_listed(given)}"
        yield f"{code.family} k={k}{weight} {rows}"
    if config.memory.kind != "none":
        yield f"memory {config.memory.kind}"
    if config.decoder.kind != config.memory.decoder:
        yield config.decoder.kind
    if config.wire.dtype:
        yield config.wire.dtype
    if config.downlink.kind == "codewords":
        yield "codewords down"
    update = config.update
    amount = {"first": update.count or max(1, 3 * config.workers.count // 4), "captured": update.fraction}
    text = f"{update.mode} {amount[update.mode]:g}" if update.mode in amount else update.mode
    yield text + (", late wasted" if update.late == "waste" and update.mode in amount else "")
    yield f"rate {config.optimizer.rate:.3g}"


def _listed(value: int | list[int]) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
