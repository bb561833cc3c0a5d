"""Reading a configuration: TOML, overrides from the command line, scheme defaults, and errors of one line."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from .. import stragglers
from ..util.errors import InputError, within
from . import kinds
from . import presets as schemes
from .tables import Config


def load(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Config, str]:
    """Read and check a configuration.

    Parameters
    ----------
    path : path
        Of the TOML file.
    overrides : sequence of str
        ``key=value`` with dotted keys; values are TOML, or else plain strings.

    Returns
    -------
    config : Config
        Resolved: the scheme's defaults filled in.
    text : str
        The file, verbatim.

    Raises
    ------
    InputError
        Naming file, key and value.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: {reason}") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    with within(path):
        return resolve(tables, overrides), text


def resolve(tables: dict[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Turn the tables of a TOML file into a checked configuration.

    Raises
    ------
    InputError
        Naming key and value.
    """
    parsed = [_parse(override) for override in overrides]
    asked = {keys[1]: str(value) for keys, value in parsed if keys[0] == "scheme" and len(keys) == 2}
    if asked:  # in so many words: it overrides the file's tables
        tables = schemes.impose(tables, asked.get("name"), asked.get("preset"))
    given: schemes.Tables = {}
    for keys, value in parsed:
        if len(keys) == 2:
            given.setdefault(keys[0], {})[keys[1]] = value
    tables = {
        name: dict(table) if isinstance(table, dict) else table
        for name, table in schemes.fill(tables, given).items()
    }
    for keys, value in parsed:
        _insert(tables, keys, value)
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        raise InputError(_explain(str(error), tables)) from None
    check(config)
    return config


def check(config: Config) -> None:
    """Refuse combinations of keys that cannot work.

    Raises
    ------
    InputError
        Naming key and value.
    """
    if config.wire.dtype == "float64" and config.problem.dtype == "float32":
        raise InputError("wire.dtype: 'float64' is wider than problem.dtype 'float32'")
    scheme, preset = config.scheme.name, config.scheme.preset
    kind = kinds.find("schemes", scheme)
    if kind is None:
        raise InputError(f"scheme.name: expected one of {', '.join(kinds.names('schemes'))} (got {scheme!r})")
    try:
        msgspec.convert(config.scheme.options, kind.Options)
    except msgspec.ValidationError as error:
        raise InputError(f"scheme.options: {error}") from None
    kind.check(config)
    if preset is not None and preset not in schemes.presets_of(scheme):
        raise InputError(f"scheme.preset: scheme '{scheme}' has no preset '{preset}'")
    memory, decoder = config.memory.kind, config.decoder.kind
    if memory in ("worker", "difference"):
        if decoder not in (None, "adjoint"):
            raise InputError(
                f"decoder.kind: memory '{memory}' needs the plain sum of 'adjoint', got '{decoder}'"
            )
        if config.optimizer.staleness == "inverse":
            raise InputError(
                "optimizer.staleness: 'inverse' would lose part of what workers with "
                f"memory.kind = '{memory}' have sent"
            )
    if memory == "coordinator" and decoder not in (None, "tracking"):
        raise InputError(f"decoder.kind: memory 'coordinator' is that of 'tracking', got '{decoder}'")
    if config.downlink.kind == "codewords" and decoder not in (None, "adjoint", "tracking"):
        raise InputError(
            f"downlink.kind: replicas that follow 'codewords' decode by adjoint or tracking, not "
            f"'{decoder}', which holds payloads and no state that could be sent to a late worker"
        )
    if config.update.mode != "first" and config.update.count is not None:
        raise InputError(
            f"update.count: {config.update.count} belongs to update.mode 'first', not '{config.update.mode}'"
        )
    workers = config.workers.count
    for key in ("raise_worker", "nan_worker"):
        fault = getattr(config.faults, key)
        if fault is not None and fault >= workers:
            raise InputError(f"faults.{key}: worker {fault} does not exist (there are {workers}, from 0)")
    if Path(config.trace.path).name in ("", ".."):
        raise InputError(f"trace.path: '{config.trace.path}' is not the name of a file")
    stragglers.check(config.stragglers, workers)
    stragglers.check_end(config)


def _parse(override: str) -> tuple[list[str], Any]:
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override}: expected KEY=VALUE with a dotted key, such as update.mode=all")
    try:
        return keys, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return keys, text.strip()


def _insert(tables: dict[str, Any], keys: list[str], value: Any) -> None:
    table = tables
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {'.'.join(keys)}: {key} is not a table")
    table[keys[-1]] = value


def _explain(message: str, tables: dict[str, Any]) -> str:
    """``Expected `int`, got `str` - at `$.code.blocks``` -> ``code.blocks: expected int, got str
    ('four')``."""
    text, _, where = message.partition(" - at `$.")
    text = text.replace("`", "")
    where = where.rstrip("`")
    if "unknown field" in text:
        name = text.rsplit(" ", 1)[-1]
        key = f"{where}.{name}" if where else name
        return f"{key}: unknown key (value {_lookup(tables, key)!r}); known: {', '.join(_known(where))}"
    if "nvalid enum value" in text:
        text = f"expected one of {', '.join(map(str, _choices(where)))}"
    return f"{where}: {text[:1].lower()}{text[1:]} (got {_lookup(tables, where)!r})"


def _lookup(tables: Any, where: str) -> Any:
    """Value of a dotted key; of a list's element, the list."""
    for key in where.split("."):
        tables = tables.get(key.partition("[")[0]) if isinstance(tables, dict) else None
    return tables


def _known(where: str) -> list[str]:
    """Keys of a table."""
    return list(getattr(Config(), where).__struct_fields__ if where else Config.__struct_fields__)


def _choices(where: str) -> list[Any]:
    """Values that a key may have, if they are an enumeration."""
    table, _, key = where.partition(".")
    kind = get_type_hints(type(getattr(Config(), table)))[key.partition("[")[0]]
    kinds = [kind, *get_args(kind), *(inner for outer in get_args(kind) for inner in get_args(outer))]
    return next((list(get_args(each)) for each in kinds if get_origin(each) is Literal), [])
