"""Default values of keys, and the origin of the value of each key.

A key has the first of these values that exists:

1. that of the command line: `--set`, or an option such as `-n`;
2. that of the file;
3. that of the scheme's preset, which provides single keys, or of the scheme, which provides whole tables; the
   learning rate of a preset is at most `longest_rate`, which depends on the number of workers, and is
   multiplied by `rate_factors`, which depend on the numbers of matrices and workers; its momentum and rate
   follow the mini-batches by `adjustment_for_batch`;
4. the default of its field, in `config.schema`, in `config.interfaces` or in the class of the kind.

A value drops keys of later levels that have no effect with it. `config.load.resolve` applies these levels.
Preset "auto" of scheme `lwpd` is the candidate with which a run begins (`choice.preset`); it is the
default where a configuration gives that scheme no preset and no key of the tables in `FILLED`.

Where the value is none or "auto", it then follows

5. from another key: `DERIVED`;
6. from the data and the number of workers, where it is "auto": `automatic.keys.resolve_auto`;
7. from rank 0's link and the workers' tasks, by `[link]` and `[machine]` or measured:
   `automatic.link_sizing.resolve_rows` and `Scheme.with_speeds`.

"auto" in `[problem]`, and none where the description of a key gives its meaning, are values themselves.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from ..util.errors import InputError
from . import kinds, requirements
from .fields import Table, Tables
from .problems import NetworkTable
from .requirements import Needs, by_key, in_full
from .schema import AUTO, KINDS, Config, SchemeTable

FILLED = "code", "memory", "decoder", "wire", "downlink", "reduce", "update", "optimizer"
"""Tables that presets fill in, besides ``[scheme]``."""

KIND_KEYS = "kind", "mode", "family"
"""Keys that name the kind of a table; those of a scheme or preset are what it is."""

ALTERNATIVES = {"share": "rows_per_task", "rows_per_task": "share"}  # either key replaces the other

FEW_MATRICES, FEW_WORKERS = 3, 8  # of `rate_factors`
DEEP_EXPONENT, CENTRED_EXPONENT = 5 / 3, 1.0  # likewise, the latter for networks with centred gradients
# Rate of whitened gradients of which tasks send this fraction or more, and the exponent of 1 - β, where β is
# the momentum: 0.7 at 0.8, 1.1 at 0.6 (all-reduce, and in four bits with error feedback; digits and mnist5k).
WHITENED_RATE, REFERENCE_FRACTION, MOMENTUM_EXPONENT = 2.0, 1 / 8, 0.65
# Mini-batches beyond which presets of rounds have more momentum, and beyond which they have no more of it.
USUAL_BATCH, LARGE_BATCH = 32, 128
FINAL = 0.1  # part of the rate at the end of a regression

DERIVED = {
    "code.blocks": "code.path",
    "decoder.kind": "memory.kind",
    "optimizer.updates": "stop.updates",
    "update.count": "workers.count",
    "wire.dtype": "problem.dtype",
}
"""Key -> the key that determines it if it is not given."""


class Origins(dict[str, str]):
    """Origins of the keys whose value is not the default of their field: "table.key" -> origin."""

    def note_tables(
        self, of_file: Tables, filled: Tables, commanded: Iterable[tuple[list[str], Any]]
    ) -> None:
        """Note the keys of the file, of scheme and preset, and of the command line."""
        chosen, given = SchemeTable.of(filled.get("scheme", {})), flat(of_file)
        preset = flat(_scheme({"name": chosen.name}).presets.get(chosen.preset, {}))
        for name, value in flat(filled).items():
            provider = f"preset {chosen.preset}" if name in preset else f"scheme {chosen.name}"
            self[name] = "file" if name in given and given[name] == value else provider
        for keys, value in commanded:
            names = flat({keys[0]: value}) if len(keys) == 1 else [".".join(keys[:2])]
            self.update(dict.fromkeys(names, "command line"))

    def note_completed(self, tables: Tables, config: Config) -> None:
        """Note the keys that are not in the tables, but determined by another key."""
        if config.decoder.kind != tables.get("decoder", {}).get("kind"):
            self["decoder.kind"] = _derived("decoder.kind")
        if config.code.paths and "blocks" not in tables["code"]:
            self["code.blocks"] = _derived("code.blocks")

    def note_resolved(self, before: Config, after: Config, origin: str = "") -> None:
        """Note the keys that differ from an earlier configuration, by this origin or by another key."""
        old = flat(msgspec.to_builtins(before))
        for name, value in flat(msgspec.to_builtins(after)).items():
            if name not in old or old[name] != value:
                self[name] = origin or _derived(name)


def gradient_rate(config: Config) -> str:
    """Return the key of the learning rate that scales the gradients of mini-batches, or an empty string."""
    key: str = kinds.find("schemes", config.scheme.name).gradient_rate
    return "" if key == "optimizer.rate" and not config.optimizer.linear else key


def longest_rate(config: Config) -> float:
    """Return the longest good learning rate, infinite if the number of workers n does not limit it.

    It does where each whitened payload is a step of rate/n by itself: to the scheme's `longest_step`.
    """
    if not (_is_whitened(config) and config.update.asynchronous and config.memory.kind == "worker"):
        return math.inf
    step: float = kinds.find("schemes", config.scheme.name).longest_step
    return step * config.workers.count


def limit_preset_rate(config: Config, origins: Origins) -> Config:
    """Reduce the rate of a preset to `longest_rate` and by `rate_factors`, and note that.

    It becomes "auto" if only the model knows the number of its matrices, and where the preset has none for
    linear models, whose curvature decides. Rate and momentum are settled by the batch where both are the
    preset's, or the rate is "auto".
    """
    config = _settle_schedule(_settle_by_batch(_settle_scaling(config), origins), origins)
    origin, many, preset = origins.get("optimizer.rate", ""), matrices(config), config.scheme.preset
    linear = isinstance(config.problem, NetworkTable) and not (config.problem.deep or config.problem.latent)
    if preset and not origin and linear and gradient_rate(config) and not _is_whitened(config):
        origins["optimizer.rate"] = f"preset {preset}"
        return config.with_keys(optimizer={"rate": AUTO})
    if not origin.startswith("preset") or config.optimizer.rate == AUTO:
        return config
    if many is None and _is_whitened(config):
        rate: Any = AUTO
    else:
        rate, limits = limited_rate(config, float(config.optimizer.rate), many or 1)
        origin += limits
    if rate == config.optimizer.rate:
        return config
    origins["optimizer.rate"] = origin
    return config.with_keys(optimizer={"rate": rate})


def _settle_scaling(config: Config) -> Config:
    """Return a configuration that keeps inputs apart where a penalty is of the weight of each."""
    problem = config.problem
    if config.optimizer.proximal is None or not isinstance(problem, NetworkTable) or problem.latent:
        return config
    if problem.standardise not in (AUTO, "white"):
        return config
    return config.with_keys(problem={"standardise": problem.standardise == "white"})


def _settle_schedule(config: Config, origins: Origins) -> Config:
    """Return a configuration whose rate falls, if it is that of a preset for regression and the end is known.

    It does not fall to 0, so that a run that is resumed goes on.
    """
    preset, given = config.scheme.preset, {"optimizer.schedule", "optimizer.updates"} & {*origins}
    if preset not in _scheme({"name": config.scheme.name}).regressions or given or not config.stop.updates:
        return config
    if not origins.get("optimizer.rate", "").startswith("preset"):
        return config
    origins["optimizer.schedule"] = f"preset {preset}"
    return config.with_keys(optimizer={"schedule": "linear", "final": FINAL})


def _settle_by_batch(config: Config, origins: Origins) -> Config:
    momentum_of, rate_of = (origins.get(f"optimizer.{key}", "") for key in ("momentum", "rate"))
    rate, changed = config.optimizer.rate, dict[str, Any]()
    if momentum_of.startswith("preset") and (rate == AUTO or rate_of.startswith("preset")):
        factor, momentum = adjustment_for_batch(config, config.optimizer.momentum)
        if momentum != config.optimizer.momentum:
            changed["momentum"] = momentum
            origins["optimizer.momentum"] = f"{momentum_of}, {_batches(config)}"
            if rate != AUTO:
                changed["rate"] = float(f"{float(rate) * factor:.3g}")
                origins["optimizer.rate"] = f"{rate_of}, × {factor:g} {_batches(config)}"
    return config.with_keys(optimizer=changed) if changed else config


def limited_rate(config: Config, rate: float, many: int) -> tuple[float, str]:
    """Return a learning rate, limited by `longest_rate` and `rate_factors`, and the limits as text."""
    longest, factors, text = longest_rate(config), rate_factors(config, many), ""
    if rate > longest:
        text += f", at most {longest / config.workers.count:g} · workers.count"
    for what, factor in factors.items():
        text += f", × {factor:g} for {what}"
    rate = min(rate, longest) * math.prod(factors.values())
    return float(f"{rate:.3g}") if factors else rate, text


def preset_optimizer(config: Config) -> Mapping[str, Any]:
    """Return the keys of the optimizer in the configuration's preset; none if its kind is another one."""
    preset = _scheme({"name": config.scheme.name}).presets.get(config.scheme.preset or "", {})
    own: Mapping[str, Any] = preset.get("optimizer", {})
    return own if own.get("kind", config.optimizer.default) == config.optimizer.kind else {}


def whitened_rate(config: Config) -> tuple[float, str]:
    """Return the usual learning rate of whitened gradients, before limits, and where it is from, as text."""
    own, friction = preset_optimizer(config), 1 - config.optimizer.momentum
    if isinstance(rate := own.get("rate"), float):
        factor, momentum = adjustment_for_batch(config, own.get("momentum", 0.0))
        friction /= 1 - momentum
        text = f"{rate:g} of preset '{config.scheme.preset}'"
        if factor < 1:
            text += f", × {factor:g} {_batches(config)}"
        return rate * factor * friction**MOMENTUM_EXPONENT, text
    rate = WHITENED_RATE * friction**MOMENTUM_EXPONENT
    if not config.update.asynchronous:
        return rate, f"{WHITENED_RATE:g} of whitened gradients"
    if config.memory.kind != "worker":
        return rate / config.workers.count, f"{WHITENED_RATE:g} / workers.count, as each payload is a step"
    smaller = math.sqrt(min(1.0, (config.code.share or 1.0) / REFERENCE_FRACTION))  # residuals are larger
    return rate * smaller, f"{WHITENED_RATE:g} of whitened gradients"


def _is_whitened(config: Config) -> bool:
    return config.code.whiten != "none" and gradient_rate(config) == "optimizer.rate"


def adjustment_for_batch(config: Config, momentum: float) -> tuple[float, float]:
    """Return the factor by which the mini-batches change a preset's rate, and the momentum that they need.

    Larger ones have less noise, so that the mean of whitened gradients is longer, and more momentum pays:
    1 - β falls by √(32/B), and the rate by the root of that. This held for eight workers and more, by the
    batch and not by the samples of an update.
    """
    batch = min(config.problem.batch, LARGE_BATCH)
    few = config.workers.count < FEW_WORKERS
    if not momentum or few or batch <= USUAL_BATCH or config.update.asynchronous or not _is_whitened(config):
        return 1.0, momentum
    less = math.sqrt(USUAL_BATCH / batch)
    return float(f"{math.sqrt(less):.2g}"), float(f"{1 - (1 - momentum) * less:.3g}")


def _batches(config: Config) -> str:
    return f"for mini-batches of {config.problem.batch}"


def rate_factors(config: Config, many: int) -> dict[str, float]:
    """Return factors on a learning rate of whitened gradients, with what they are for.

    A whitened step changes every matrix by the same length, whatever it contributes to the gradient; so many
    matrices change the output by more. The mean of few workers' whitened gradients is noisy. Both were found
    on digits, with 2 to 7 matrices of 64 units, and 4 to 48 workers; the batch, of 32 or 128, did not matter.
    The exponent of centred gradients is of two networks of `pdcode bench heldout`, with 5 and 8 matrices; in
    modules of PyTorch it was not tried.
    The orthogonalised mean of few samples is noisy in all directions.
    """
    workers = config.workers.count
    samples, fewest = workers * config.problem.batch, config.optimizer.fewest_samples
    if 0 < samples < fewest:
        return {f"{samples} samples": float(f"{math.sqrt(samples / fewest):.2g}")}
    if not _is_whitened(config):
        return {}
    centred = config.code.centre and isinstance(config.problem, NetworkTable)
    exponent = CENTRED_EXPONENT if centred else DEEP_EXPONENT
    deep = (FEW_MATRICES / max(FEW_MATRICES, many)) ** exponent
    factors = {f"{many} matrices": float(f"{deep:.2g}")}
    if not config.update.asynchronous:
        factors[f"{workers} workers"] = min(1.0, workers / FEW_WORKERS)
    return {what: factor for what, factor in factors.items() if factor < 1}


def matrices(config: Config) -> int | None:
    """Return the number of matrices of weights of a network; None: only the model knows it."""
    if not isinstance(config.problem, NetworkTable):
        return None
    return 1 + len(config.problem.hidden or ()) * config.problem.deep


def _derived(name: str) -> str:
    """Return the origin of a key that another key has determined."""
    return f"by {DERIVED.get(name, 'other keys')}"


def flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of all tables by their dotted names."""
    found: dict[str, Any] = {}
    for name, table in tables.items():
        if isinstance(table, Mapping):
            found |= {f"{name}.{key}": value for key, value in table.items()}
        else:
            found[name] = table
    return found


def with_derived_keys(config: Config) -> Config:
    """Return a configuration with values for the keys that other keys determine."""
    wire = msgspec.structs.replace(config.wire, dtype=config.wire.dtype or config.problem.dtype)
    update = config.update.resolved(config.workers.count)
    optimizer = config.optimizer.resolved(config.stop.updates)
    return msgspec.structs.replace(config, wire=wire, update=update, optimizer=optimizer)


def add_defaults(tables: dict[str, Any], overrides: Tables) -> dict[str, Any]:
    """Add the defaults of the scheme or preset for tables and keys that are not given.

    A scheme provides whole tables, a preset single keys. No key is added that contradicts the tables or the
    overrides.
    """
    chosen = tables.get("scheme", {})
    scheme = _scheme(chosen)
    if scheme is None or is_auto(tables):
        return tables
    preset = scheme.presets.get(str(chosen.get("preset")))
    filled = dict(tables)
    for name, table in (scheme.tables if preset is None else preset).items():
        given = tables.get(name, {})
        adds_keys = preset is not None or name in scheme.unused  # an error names the key that is given
        if name not in tables or (adds_keys and isinstance(given, dict)):
            wanted = {**given, **overrides.get(name, {})}
            own = _giving_way(table, wanted) if preset is not None and name == "optimizer" else table
            filled[name] = _fitting(name, own, wanted) | given
    return filled


def replace_defaults(tables: dict[str, Any], name: str | None, preset: str | None) -> dict[str, Any]:
    """Replace tables of the configuration by those of a scheme, and keys by those of a preset."""
    if name is not None:
        scheme = _scheme({"name": name})
        own = {key: dict(table) for key, table in scheme.tables.items()} if scheme else {}
        tables = tables | {"scheme": {"name": name}} | own
    if preset is None or not isinstance(tables.get("scheme", {}), dict):
        return tables
    tables = tables | {"scheme": {**tables.get("scheme", {}), "preset": preset}}
    scheme = _scheme(tables["scheme"])
    if is_auto(tables):  # nothing of another scheme is given any more
        return without_filled(tables)
    for key, table in (scheme.presets.get(preset, {}) if scheme else {}).items():
        given = tables.get(key, {})
        if isinstance(given, dict):  # drop keys that contradict the preset; `add_defaults` adds the preset's
            left = _fitting(key, given, table)
            tables[key] = {name: value for name, value in left.items() if name not in table}
    return tables


def without_filled(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables without those that presets fill, but with a penalty: a part of the problem."""
    optimizer = tables.get("optimizer")
    kept = {key: table for key, table in tables.items() if key not in FILLED}
    if isinstance(optimizer, Mapping) and "proximal" in optimizer:
        kept["optimizer"] = {"proximal": optimizer["proximal"]}
    return kept


def is_auto(tables: Mapping[str, Any]) -> bool:
    """Return whether the tables have preset "auto"."""
    scheme = tables.get("scheme")
    return isinstance(scheme, Mapping) and scheme.get("preset") == AUTO


def with_default_preset(tables: dict[str, Any], overridden: Iterable[str]) -> dict[str, Any]:
    """Return the tables with preset "auto" if that is the default; `overridden` are tables with overrides."""
    chosen = tables.get("scheme", {})
    free = isinstance(chosen, Mapping) and "preset" not in chosen
    if not free or {*FILLED} & {*tables, *overridden} or not getattr(_scheme(chosen), "candidates", None):
        return tables
    return tables | {"scheme": {**chosen, "preset": AUTO}}


def with_needed_keys(tables: dict[str, Any], origins: Origins) -> tuple[dict[str, Any], Config]:
    """Return the tables with keys of which only one value goes with the rest, unless given; and the whole.

    With preset "auto" the whole lacks the tables that presets fill, of which nothing is known but what other
    tables need.
    """
    unknown, tried = {*FILLED} if is_auto(tables) else set(), set[str]()

    def made(tables: dict[str, Any]) -> Config:
        return Config.of({name: table for name, table in tables.items() if name not in unknown})

    config = made(tables)
    while True:
        found = requirements.needed(config)
        free = (each for each in found if each[0] not in tried and _is_free(tables, each[0], origins))
        if (first := next(free, None)) is None:
            return tables, config
        key, value, owner = first
        tried.add(key)
        filled = _with_key(tables, key.split("."), value)
        with suppress(InputError):  # else the requirement is what is refused
            config, tables, origins[key] = made(filled), filled, f"needed by {owner}"


def _is_free(tables: Mapping[str, Any], key: str, origins: Origins) -> bool:
    """Return whether a key is not given, or by a scheme or preset and not the kind of a table."""
    *path, last = key.split(".")
    holder: Any = functools.reduce(lambda table, part: table.get(part) or {}, path, tables)
    if last not in holder:
        return True
    name, *inner = path
    if inner or origins.get(key) in ("file", "command line"):
        return False
    base = KINDS.get(name)
    return last not in KIND_KEYS or (base is not None and holder[last] == base.default)


def _with_key(tables: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**tables, first: _with_key(tables.get(first) or {}, rest, value) if rest else value}


def preset_filled(config: Config, name: str, origins: Origins) -> Config:
    """Return a configuration with preset "auto" with one of its candidates, "preset" or "scheme:preset"."""
    scheme, _, preset = name.rpartition(":")
    given = config.scheme.given or {}
    chosen = {"name": scheme or config.scheme.name, "preset": preset}
    tables = add_defaults({**given, "scheme": chosen}, {})
    for key, value in flat(_scheme(chosen).presets[preset]).items():
        table, _, last = key.partition(".")
        own = given.get(table)
        if last in KIND_KEYS and isinstance(own, Mapping) and own.get(last, value) != value:
            raise InputError(f"{key}: {own.get(last)!r} is given, and preset '{name}' has {value!r}")
    origins.note_tables(given, tables, ())
    made = with_needed_keys(tables, origins)[1]
    filled = {key: getattr(made, key) for key in FILLED}
    filled["code"], problem = made.code.completed(), config.problem
    own = _fitting("problem", _scheme(chosen).presets[preset].get("problem", {}), {"kind": problem.kind})
    own = {key: value for key, value in own.items() if getattr(problem, key) in (None, AUTO)}
    filled["problem"] = msgspec.structs.replace(problem, **own)
    return limit_preset_rate(msgspec.structs.replace(config, scheme=made.scheme, **filled), origins)


def without_conflicting(name: str, table: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return a table without the keys without effect under the overrides, such as those of another kind."""
    table, base = without_effect(name, table, overrides), KINDS.get(name)
    tag = str(base.__struct_config__.tag_field if base else None)
    if base is None or overrides.get(tag, table.get(tag)) == table.get(tag):
        return table
    return _of_kind(base, table, overrides[tag])


def without_effect(name: str, table: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table without the keys that have no effect with the chosen values of other keys."""
    declared = by_key(_class_of(name, {**table, **chosen}).effective)
    lost = {key for key, needs in declared if _loses_effect(name, needs, chosen)}
    return {key: value for key, value in table.items() if key not in lost}


def _loses_effect(name: str, needs: Needs, chosen: Mapping[str, Any]) -> bool:
    """Return whether values of keys of a table violate requirements on this table."""
    for key, need in in_full(needs):
        value = chosen.get(key.removeprefix(f"{name}."), msgspec.UNSET)
        if need.of_kind and value is not msgspec.UNSET:
            value = KINDS[name].find(value) or msgspec.UNSET
        if value is not msgspec.UNSET and not need.test(value, None):
            return True
    return False


def _class_of(name: str, table: Mapping[str, Any]) -> Any:
    """Return the class of a table; the base class if the table names a kind that does not exist."""
    base = KINDS.get(name)
    if base is None:
        return type(getattr(Config(), name, Table()))
    return base.find(table.get(str(base.__struct_config__.tag_field), base.default)) or base


def _scheme(table: Any) -> Any:
    """Return the class of the scheme that the table names, or None."""
    name = table.get("name", SchemeTable().name) if isinstance(table, dict) else None
    return kinds.find("schemes", name)


def _fitting(name: str, filling: Any, given: Any) -> dict[str, Any]:
    """Return the keys of `filling` that do not contradict the given ones."""
    dropped = {ALTERNATIVES.get(key) for key in given}
    if given.get("blocks") == 1:  # nothing is coded
        dropped |= {"rows_per_task", "share"}
    base = KINDS.get(name)
    if base is not None:
        tag = str(base.__struct_config__.tag_field)
        kind = given.get(tag, filling.get(tag, base.default))
        if kind != filling.get(tag, base.default):
            dropped |= {"weight", "options"}  # they belong to another family
        filling = _of_kind(base, filling, kind)
    return {key: value for key, value in without_effect(name, filling, given).items() if key not in dropped}


def _giving_way(table: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a preset's table ``[optimizer]`` as of the given kind, whose steps need another rate.

    It is also the default kind if a key is given that this one has, and the preset's lacks, unless steps of
    the preset's kind are what it is.
    """
    base = KINDS["optimizer"]
    own, default = (base.find(each) for each in (table.get("kind", base.default), base.default))
    yields = own.gives_way and {*given} & {*default.__struct_fields__} - {*own.__struct_fields__}
    kind = base.find(given.get("kind", default.name_of() if yields else own.name_of()))
    if kind is own:
        return table
    return {key: table[key] for key in table if kind and key in kind.__struct_fields__} | {"rate": AUTO}


def _of_kind(base: Any, table: Any, kind: Any) -> dict[str, Any]:
    """Return the keys of a table that the kind has; all keys if the kind does not exist.

    Keys that the table's own kind does not have are kept, to be refused.
    """
    kind_class, own = base.find(kind), base.named(table)
    if kind_class is None or own is None:
        return dict(table)
    known = base.__struct_config__.tag_field, *own.__struct_fields__
    return kind_class.shared_keys(table) | {key: table[key] for key in table if key not in known}
