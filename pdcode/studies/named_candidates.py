"""Entrants of a comparison: a configuration for each scheme, with everything else in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..config import Config, kinds
from ..config import load as configfile
from ..training import setup
from ..util.errors import InputError, prefix_errors
from . import search_space as space
from .trial import payloads, source

OWN = "yours"  # the configuration as it is
ALL = "all"  # every scheme and preset that can run


@dataclass(frozen=True)
class Entrant:
    """A scheme with the configuration in which it runs.

    Attributes
    ----------
    name : str
        As it was asked for: a scheme, or ``SCHEME:PRESET``, with ``/KEY=VALUE`` for each changed key.
    config : Config
    """

    name: str
    config: Config

    @property
    def rate(self) -> float:
        """Learning rate that matters most to the scheme."""
        return space.rate_of(self.config)

    def at(self, rate: float) -> Entrant:
        """Return the entrant with another learning rate."""
        return Entrant(self.name, space.with_rate(self.config, rate))


def entrants(
    tables: dict[str, Any],
    overrides: Sequence[str],
    folder: Path,
    wanted: str,
    aliases: Mapping[str, str] = {},
) -> list[Entrant]:
    """Make the entrants of a comparison.

    Problem, workers, delays, machine, link and stop are the configuration's. The tables of `space.VARIED`
    are those of the entrant's scheme or preset, and so is ``[optimizer]`` if it has a learning rate; else
    that is the configuration's, converted to the entrant's kind of step (`space.base_rate`).

    Parameters
    ----------
    tables : dict
        Tables of the user's TOML file.
    overrides : sequence of str
        ``KEY=VALUE``, for all entrants.
    folder : Path
        Folder of the file.
    wanted : str
        Names of entrants, separated by commas; ``all`` stands for every scheme and preset that can run and
        is not one of the others by another name.

    Raises
    ------
    InputError
        If a scheme that was named cannot run, or two entrants have the same name.
    """
    own = configfile.resolve(tables, overrides, folder)
    made: list[Entrant] = []
    for name in _names(wanted):
        every = [OWN, *_offered()] if name == ALL else [name]
        for each in every:
            try:
                with prefix_errors(f"--schemes {each}"):
                    made.append(_entrant(each, tables, overrides, folder, own, aliases))
            except InputError:
                if name != ALL:
                    raise
        if name == ALL:
            made = _distinct(made)
    names = [entrant.name for entrant in made]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--schemes: '{name}' is there twice")
    return made


def _distinct(made: list[Entrant]) -> list[Entrant]:
    """Leave out entrants that differ from an earlier one by name alone."""
    return list({space.identity(each.config): each for each in reversed(made)}.values())[::-1]


def _names(wanted: str) -> list[str]:
    """Split at commas that separate entrants: those before a name, not those within a value."""
    names = [name.strip() for name in re.split(r",(?=\s*(?:[a-z][\w-]*\s*(?:[:/,]|$)|,|$))", wanted)]
    if not all(names):
        raise InputError(f"--schemes {wanted}: expected names of schemes, such as lwpd:default,uncoded,topk")
    return names


def _offered() -> list[str]:
    """List every scheme, and every preset of one, that is built in or of an installed package."""
    offered = []
    for name in kinds.names("schemes"):
        offered += [name, *(f"{name}:{preset}" for preset in kinds.find("schemes", name).presets)]
    return offered


def _entrant(
    name: str,
    tables: dict[str, Any],
    overrides: Sequence[str],
    folder: Path,
    own: Config,
    aliases: Mapping[str, str],
) -> Entrant:
    if name == OWN:
        setup.prepare(own, source=source(own))
        return Entrant(OWN, own)
    spec, *changes = name.split("/")
    scheme, _, preset = aliases.get(spec, spec).partition(":")
    kind = kinds.find("schemes", scheme)
    if kind is None:
        raise InputError(f"scheme.name: expected one of {', '.join(kinds.names('schemes'))} (got {scheme!r})")
    chosen = {"name": scheme} | ({"preset": preset} if preset else {})
    common = {key: table for key, table in tables.items() if key not in space.VARIED}
    filled = kind.presets.get(preset, {}) if preset else kind.tables
    if space.has_rate(filled):
        common.pop("optimizer", None)
    config = configfile.resolve(common | {"scheme": chosen}, [*overrides, *changes], folder)
    if not any(key.startswith("optimizer.rate") for key in changes) and not space.has_rate(filled):
        rate = space.base_rate(own) * space.own_rate(config)
        optimizer = msgspec.structs.replace(config.optimizer, rate=float(f"{rate:.4g}"))
        config = msgspec.structs.replace(config, optimizer=optimizer)
    if own.stop.updates is not None:  # as many payloads as the configuration's updates use
        updates = max(1, round(own.stop.updates * payloads(own) / payloads(config)))
        config = msgspec.structs.replace(config, stop=msgspec.structs.replace(config.stop, updates=updates))
    configfile.check_consistency(config)
    setup.prepare(config, source=source(config))
    return Entrant(name, config)
