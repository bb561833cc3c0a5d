"""Writing of configurations as TOML."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ..util.errors import InputError, short_repr
from .defaults import FILLED, Origins
from .schema import AUTO, Config

WIDTH = 31  # columns before comments


def to_toml(config: Config | Mapping[str, Any], origins: Origins | None = None) -> str:
    """Return a configuration, or the tables of one, as TOML text; keys without a value are left out.

    With `origins`, a comment on each line names the origin of the value.
    """
    tables = msgspec.to_builtins(config) if isinstance(config, Config) else config
    if isinstance(config, Config) and config.scheme.is_auto:  # the tables that presets fill are a candidate's
        scheme, others = tables["scheme"], {key: tables[key] for key in tables if key not in FILLED}
        tables = others | {"scheme": {"name": scheme["name"], "preset": AUTO}} | (scheme["given"] or {})
    lines = _lines({key: value for key, value in tables.items() if not isinstance(value, Mapping)}, origins)
    for name, table in tables.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_key(name)}]", *_lines(table, origins, f"{name}.")]
    return "\n".join([*lines, ""]).lstrip("\n")


def to_value(value: Any, name: str) -> str:
    """Return a value as TOML, also arrays and scalars of numpy; `name` is its key, for messages."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(_pairs(value, f"{name}.")) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_value(item, name) for item in value) + "]"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML has no surrogate pairs
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return float.__repr__(value) if isinstance(value, float) else int.__repr__(value)
    if hasattr(value, "tolist"):
        return to_value(value.tolist(), name)
    hint = "; the argument `data` takes data of Python" if name == "problem.data" else ""
    what = f"{type(value).__name__} {short_repr(value)}".partition("\n")[0]
    raise InputError(f"{name}: {what}: expected a number, text, a list or a table{hint}")


def _lines(table: Mapping[str, Any], origins: Origins | None, prefix: str = "") -> list[str]:
    lines = _pairs(table, prefix)
    if origins is None:
        return lines
    keys = [key for key, value in table.items() if value is not None]
    return [
        f"{line:<{WIDTH}} # {origins.get(f'{prefix}{key}', 'default')}"
        for line, key in zip(lines, keys, strict=True)
    ]


def _pairs(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    return [
        f"{_key(key)} = {to_value(value, f'{prefix}{key}')}"
        for key, value in table.items()
        if value is not None
    ]


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise InputError(f"{short_repr(key)}: expected text as a key")
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else to_value(key, key)
