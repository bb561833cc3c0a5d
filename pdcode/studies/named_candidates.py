"""Candidates that the user names: a configuration for each scheme, with all other tables in common."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from ..config import Config, defaults, kinds
from ..config import load as configfile
from ..config.schema import AUTO
from ..session import setup
from ..util.errors import InputError, expected, prefix_errors
from .candidate import OWN, VARIED, Candidate, identity
from .learning_rates import converted, has_rate
from .trial import data_source, payloads_per_update

ALL = "all"  # name for every scheme and preset that can run


def named_candidates(
    tables: dict[str, Any],
    overrides: Sequence[str],
    folder: Path,
    wanted: str,
    aliases: Mapping[str, str] = {},
    unfit: list[str] | None = None,
    own: Config | None = None,
) -> list[Candidate]:
    """Make the candidates of a comparison.

    Problem, workers, delays, machine, link and stop are the configuration's. The tables `VARIED` are from
    the candidate's scheme or preset, and so is ``[optimizer]`` if that sets a learning rate, but for a
    penalty. Otherwise the learning rate is the configuration's, converted to the candidate's kind of step
    (`learning_rates.converted`).

    Names are separated by commas; ``all`` stands for every distinct scheme and preset that can run. Overrides
    ``KEY=VALUE`` hold for all candidates. Names of candidates that cannot run are refused, or added to
    `unfit` if that is given. `own` is what the tables and overrides make, unless it is given.
    """
    own = own or configfile.resolve(tables, overrides, folder)
    made: list[Candidate] = []
    for name in _names(wanted):
        every = [OWN, *_scheme_names()] if name == ALL else [name]
        for each in every:
            try:
                with chdir(os.getcwd()), prefix_errors(f"--schemes {each}"):
                    made.append(_candidate(each, tables, overrides, folder, own, aliases))
            except InputError:
                if name != ALL and unfit is None:
                    raise
                if unfit is not None:
                    unfit.append(each)
        if name == ALL:
            # Without candidates that differ from an earlier one only by name.
            made = list({identity(each.config): each for each in reversed(made)}.values())[::-1]
    names = [each.name for each in made]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--schemes: '{name}' is there twice")
    return made


def _names(wanted: str) -> list[str]:
    """Split at the commas between names, not at those within a value."""
    names = [name.strip() for name in re.split(r",(?=\s*(?:[a-z][\w-]*\s*(?:[:/,]|$)|,|$))", wanted)]
    if not all(names):
        raise InputError(f"--schemes {wanted}: expected names of schemes, such as lwpd:default,uncoded,topk")
    return names


def _scheme_names() -> list[str]:
    """List all schemes and their presets, built in or of installed packages."""
    offered = []
    for name in kinds.names("schemes"):
        offered += [name, *(f"{name}:{preset}" for preset in kinds.find("schemes", name).presets)]
    return offered


def _candidate(
    name: str,
    tables: dict[str, Any],
    overrides: Sequence[str],
    folder: Path,
    own: Config,
    aliases: Mapping[str, str],
) -> Candidate:
    spec, *changes = name.split("/")
    if spec == OWN:
        made = configfile.resolve(tables, [*overrides, *changes], folder) if changes else own
        setup.prepare(made, source=data_source(made))
        return Candidate(name, made, held=_held(changes))
    scheme, _, preset = aliases.get(spec, spec).partition(":")
    kind = kinds.find("schemes", scheme)
    if kind is None:
        known = [*kinds.names("schemes"), OWN, *aliases]
        raise InputError(f"scheme.name: {expected(spec if scheme in aliases else scheme, known)}")
    named = {"scheme": {"name": scheme} | ({"preset": preset} if preset else {})}
    given = [each.partition(".")[0] for each in [*overrides, *changes]]
    named = defaults.with_default_preset(named, given)
    preset = named["scheme"].get("preset", "")
    rated = preset == AUTO or has_rate(kind.presets.get(preset, {}) if preset else kind.tables)
    common = {key: table for key, table in tables.items() if key not in VARIED}
    common = defaults.without_filled(common) if rated else common
    config = configfile.resolve(common | named, [*overrides, *changes], folder)
    if not any(key.startswith("optimizer.rate") for key in changes) and not rated:
        config = converted(config, own)
    if own.stop.updates is not None:  # the same number of payloads as in the user's configuration
        updates = max(1, round(own.stop.updates * payloads_per_update(own) / payloads_per_update(config)))
        config = config.with_keys(stop={"updates": updates})
    configfile.check_consistency(config)
    setup.prepare(config, source=data_source(config))
    return Candidate(name, config, held=_held([*overrides, *changes]))


def _held(changes: Sequence[str]) -> tuple[str, ...]:
    """Return the keys that these give, but for learning rates."""
    keys = (each.partition("=")[0].strip() for each in changes)
    return tuple(key for key in keys if not key.endswith(".rate"))
