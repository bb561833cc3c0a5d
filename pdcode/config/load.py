"""Reading of configurations: TOML, command-line overrides, scheme defaults, and one-line errors."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..util.errors import InputError, within
from . import kinds, presets
from .tables import KINDS, Config


def load(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Config, str]:
    """Read and check a configuration.

    Parameters
    ----------
    path : path
        The TOML file.
    overrides : sequence of str
        ``key=value`` with dotted keys. A value is parsed as TOML, and taken as a string if that fails.

    Returns
    -------
    config : Config
        The resolved configuration, with the scheme's defaults.
    text : str
        The content of the file.

    Raises
    ------
    InputError
        If the configuration is invalid; the message names file, key and value.
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
        return resolve(tables, overrides, Path(path).parent), text


def resolve(tables: dict[str, Any], overrides: Sequence[str] = (), folder: str | Path = "") -> Config:
    """Convert the tables of a TOML file to a checked configuration.

    Plug-ins are imported. Their paths are relative to `folder`, the folder of the file.

    Raises
    ------
    InputError
        If a key or value is invalid; the message names both.
    """
    parsed = [_parse(override) for override in overrides]
    tables = {name: dict(table) if isinstance(table, dict) else table for name, table in tables.items()}
    _load_plugins(tables, parsed, Path(folder))
    chosen = {keys[1]: str(value) for keys, value in parsed if keys[0] == "scheme" and len(keys) == 2}
    if chosen:  # a scheme from the command line takes precedence over the file's tables
        tables = presets.impose(tables, chosen.get("name"), chosen.get("preset"))
    given: dict[str, dict[str, Any]] = {}
    for keys, value in parsed:
        if len(keys) == 2:
            given.setdefault(keys[0], {})[keys[1]] = value
    for name, table in given.items():
        if isinstance(tables.get(name), dict):
            tables[name] = presets.without_others(name, tables[name], table)
    tables = presets.fill(tables, given)
    for keys, value in parsed:
        _insert(tables, keys, value)
    config = Config.of(tables)
    check_consistency(config)
    return config


def _load_plugins(tables: dict[str, Any], parsed: list[tuple[list[str], Any]], folder: Path) -> None:
    """Import the plug-ins, before kinds are looked up, and make their paths absolute in `tables`."""
    for keys, value in parsed:
        if keys == ["plugins"]:
            tables["plugins"] = value
    parsed[:] = [pair for pair in parsed if pair[0] != ["plugins"]]
    if "plugins" in tables:
        given = kinds.build(list[str], tables["plugins"], "plugins")
        tables["plugins"] = [str((folder / path).resolve()) for path in given]
        for path in tables["plugins"]:
            kinds.load_plugin(path)


def check_consistency(config: Config) -> None:
    """Refuse combinations of keys that cannot work.

    Raises
    ------
    InputError
        If a key or value is invalid; the message names both.
    """
    if config.wire.dtype == "float64" and config.problem.dtype == "float32":
        raise InputError("wire.dtype: 'float64' is wider than problem.dtype 'float32'")
    memory, decoder = config.memory, config.decoder
    if memory.keeps and config.optimizer.staleness == "inverse":
        raise InputError(
            "optimizer.staleness: 'inverse' would lose part of the payloads of workers with "
            f"memory.kind = '{memory.kind}'"
        )
    if config.downlink.kind == "codewords" and not decoder.relays:
        raise InputError(
            f"downlink.kind: 'codewords' does not work with decoder '{decoder.kind}', which keeps payloads "
            "and has no state that could be sent to a late worker"
        )
    if config.update.mode != "first" and config.update.count is not None:
        raise InputError(
            f"update.count: {config.update.count} needs update.mode 'first', got '{config.update.mode}'"
        )
    workers = config.workers.count
    for key in ("raise_worker", "nan_worker"):
        fault = getattr(config.faults, key)
        if fault is not None and fault >= workers:
            raise InputError(f"faults.{key}: worker {fault} does not exist (there are {workers}, from 0)")
    if Path(config.trace.path).name in ("", ".."):
        raise InputError(f"trace.path: '{config.trace.path}' is not the name of a file")
    for name in ("scheme", *KINDS):
        getattr(config, name).check(config)


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
