"""Knobs of a configuration: keys with values to try, as its tables and its scheme's options declare them."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from ..config import AUTO, Config
from ..config import load as configfile
from ..util.errors import InputError
from .candidate import VARIED


class Knob(NamedTuple):
    """Keys that change together, "table.key", and tuples of their values, in order."""

    keys: tuple[str, ...]
    values: list[tuple[Any, ...]]

    def settings(self, place: int) -> dict[str, Any]:
        """Return the values at a place by key."""
        return dict(zip(self.keys, self.values[place], strict=True))

    def place_in(self, config: Config) -> int:
        """Return the place of a configuration's values."""
        return self.values.index(_current(config, self.keys))

    def read(self, config: Config) -> dict[str, Any]:
        """Return a configuration's values by key."""
        return dict(zip(self.keys, _current(config, self.keys), strict=True))


def knobs(config: Config) -> list[Knob]:
    """Return the knobs of a configuration: the scheme's own first, with the values that go with the rest.

    The configuration's own values are among them. A key of another table that the scheme's options list is
    not that table's knob.
    """
    tables = [("scheme.options", config.scheme.options)]
    tables += [(name, getattr(config, name)) for name in (*VARIED[1:], "optimizer")]
    declared: dict[tuple[str, ...], Any] = {}
    for name, table in tables:
        for keys, values in table.candidates.items():
            listed = keys if isinstance(keys, tuple) else (keys,)
            full = tuple(key if "." in key else f"{name}.{key}" for key in listed)
            if not any({*full} & {*others} for others in declared):
                declared[full] = values(config.workers.count) if callable(values) else values
    found = []
    for keys, values in declared.items():
        now = _current(config, keys)
        every = [each if isinstance(each, tuple) else (each,) for each in values]
        fitting = [
            each for each in every if each != now and _fits(config, dict(zip(keys, each, strict=True)))
        ]
        if fitting:
            found.append(Knob(keys, _in_order(every, [now, *fitting])))
    return found


def _in_order(every: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Sort values as declared; one that is not declared by size among them, or first."""
    extra = [each for each in wanted if each not in every]
    try:
        return sorted(wanted) if extra else [each for each in every if each in wanted]
    except TypeError:
        return [*extra, *(each for each in every if each in wanted)]


def _current(config: Config, keys: tuple[str, ...]) -> tuple[Any, ...]:
    config = msgspec.structs.replace(config, update=config.update.resolved(config.workers.count))
    return tuple(attrgetter(key)(config) for key in keys)


def _fits(config: Config, settings: Mapping[str, Any]) -> bool:
    try:
        changed(config, settings)
    except InputError:
        return False
    return True


def changed(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return the configuration with other values of keys "table.key".

    If steps are linear in the gradients, another momentum changes the learning rate so that a gradient moves
    θ as far in the end.

    Raises
    ------
    InputError
        If they do not go with the rest.
    """
    made = Config.of(set_keys(msgspec.to_builtins(config), settings))
    optimizer, before = made.optimizer, config.optimizer
    scales = optimizer.linear and optimizer.rate != AUTO and "optimizer.rate" not in settings
    if scales and optimizer.momentum != before.momentum:
        rate = float(optimizer.rate) * (1 - optimizer.momentum) / (1 - before.momentum)
        made = msgspec.structs.replace(made, optimizer=msgspec.structs.replace(optimizer, rate=rate))
    configfile.check_consistency(made)
    return made


def set_keys(tables: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with other values of keys "table.key"."""
    made = dict(tables)
    for key, value in settings.items():
        name, _, rest = key.partition(".")
        made[name] = set_keys(made.get(name) or {}, {rest: value}) if rest else value
    return made
