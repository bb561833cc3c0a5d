"""Writing of configurations as TOML."""

from __future__ import annotations

import json

import msgspec

from .tables import Config


def to_toml(config: Config) -> str:
    """Return a configuration as TOML text that reads back equal; keys without a value are left out."""
    lines, tables = [], msgspec.to_builtins(config)
    for name, value in tables.items():
        if not isinstance(value, dict):
            lines.append(f"{name} = {json.dumps(value)}")
    for name, table in tables.items():
        if isinstance(table, dict):
            pairs = (f"{key} = {_value(value)}" for key, value in table.items() if value is not None)
            lines += ["", f"[{name}]", *pairs]
    return "\n".join([*lines, ""])


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_value(key)} = {_value(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML has no surrogate pairs
