"""Requirements of keys, kinds and schemes on other keys: declared with these, and checked here.

A table declares `effective`, the requirements without which a key has no effect, and `requires`, the
requirements of a key with another value than its default; under the key that names its kind, the
kind's own requirements. A scheme also declares `requires`, and the tables that it leaves `unused`.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from ..util.errors import InputError, short_repr
from . import building, kinds
from .fields import Table

Test = Callable[[Any, Any], bool]


class Need(NamedTuple):
    """Requirement on a key's value."""

    test: Test  # (value, config) -> whether the value meets the requirement
    needed: str  # the values that meet it, as in "it needs …"
    why: str = ""  # the reason, as in "…, which …"; may be empty
    of_kind: bool = False  # whether `test` takes the kind (or wire format) that the key names, not the name
    when: Callable[[Any], bool] | None = None  # config -> whether the requirement applies; None: always
    only: Any = msgspec.UNSET  # the only value that meets it, as in a file; UNSET: there are several


Needs = Mapping[str, Any]
"""Key, as "table.key" -> `Need`, or the only value that is allowed."""
KeyNeeds = Mapping[Any, Needs]
"""Key of a table, or a tuple of keys -> its requirements on other keys."""


def one_of(*values: Any, why: str = "", when: Callable[[Any], bool] | None = None) -> Need:
    """Return the requirement of one of these values."""
    only = values[0] if len(values) == 1 else msgspec.UNSET
    needed = " or ".join(map(_shown, values))
    return Need(lambda value, config: value in values, needed, why, when=when, only=only)


def none_of(*values: Any, needed: str, why: str = "") -> Need:
    """Return the requirement of another value than these; `needed` describes the allowed ones."""
    return Need(lambda value, config: value not in values, needed, why)


def having(capability: str, needed: str, why: str = "", value: Any = True, only: Any = msgspec.UNSET) -> Need:
    """Return the requirement of a kind with this value of a class attribute; `only`, if given, has it."""
    return Need(lambda kind, config: getattr(kind, capability) is value, needed, why, of_kind=True, only=only)


def lacking(capability: str, needed: str, why: str) -> Need:
    """Return the requirement of a kind for which a class attribute is false."""
    return having(capability, needed, why, value=False)


def given(needed: str) -> Need:
    """Return the requirement of a value that is not empty."""
    return Need(lambda value, config: bool(value), needed)


def unrounded(why: str) -> Need:
    """Return the requirement of payloads in the problem's type, for the key ``wire.dtype``."""
    needed = "payloads in problem.dtype; leave it out"
    return Need(lambda value, config: value in (None, config.problem.dtype), needed, why, only=None)


def check(config: Any) -> None:
    """Refuse keys without effect, and combinations of keys that cannot work."""
    scheme = kinds.find("schemes", config.scheme.name)
    ensure(config, f"scheme '{scheme.name}'", scheme.requires)
    _check_unused(config, scheme)
    for path, table in _tables(config):
        _check_effects(config, path, table)
        for owner, needs in _required(path, table):
            ensure(config, owner, needs)


def needed(config: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield keys that do not meet a requirement, its only possible value, and its owner."""
    scheme = kinds.find("schemes", config.scheme.name)
    owners = [(f"scheme '{scheme.name}'", scheme.requires)]
    for owner, needs in chain(owners, *(_required(path, table) for path, table in _tables(config))):
        for key, need in in_full(needs):
            if need.only is not msgspec.UNSET and _misfit(config, key, need) is not msgspec.UNSET:
                yield key, need.only, owner


def ensure(config: Any, owner: str, needs: Needs) -> None:
    """Refuse a configuration that does not meet the requirements of an owner, such as "scheme 'demo'"."""
    for key, need in in_full(needs):
        if (misfit := _misfit(config, key, need)) is not msgspec.UNSET:
            because = f", which {need.why}" if need.why else ""
            raise InputError(
                f"{key}: {_shown(misfit)} does not go with {owner}{because}; it needs {need.needed}"
            )


def is_met(config: Any, needs: Needs) -> bool:
    """Return whether a configuration meets requirements."""
    return all(_misfit(config, key, need) is msgspec.UNSET for key, need in in_full(needs))


def in_full(needs: Needs) -> Iterator[tuple[str, Need]]:
    """Yield each key with its `Need`."""
    for key, need in needs.items():
        yield key, need if isinstance(need, Need) else one_of(need)


def by_key(declared: KeyNeeds) -> Iterator[tuple[str, Needs]]:
    """Yield each key with its requirements."""
    for keys, needs in declared.items():
        for key in keys if isinstance(keys, tuple) else (keys,):
            yield key, needs


def _check_unused(config: Any, scheme: Any) -> None:
    """Refuse keys of the tables that a scheme does not use, if their values are not the scheme's."""
    standard = type(config)()
    for name in (entry for entry in scheme.unused if not entry.startswith("!")):
        for key, value in msgspec.to_builtins(getattr(config, name)).items():
            default = msgspec.to_builtins(getattr(standard, name)).get(key)
            usual = scheme.tables.get(name, {}).get(key, default)
            older = getattr(getattr(config, name), "legacy_values", {}).get(key, usual)
            if value not in (usual, older) and f"!{name}.{key}" not in scheme.unused:
                raise InputError(f"{name}.{key}: {value!r} has no effect with scheme '{scheme.name}'")


def _tables(config: Any) -> Iterator[tuple[str, Table]]:
    """Yield each table of a configuration with its path, and the tables in it."""

    def inner(path: str, table: Table) -> Iterator[tuple[str, Table]]:
        yield path, table
        for key in table.__struct_fields__:
            value = getattr(table, key)
            for each in value if isinstance(value, list) else (value,):
                if isinstance(each, Table):
                    yield from inner(f"{path}.{key}", each)

    for name in config.__struct_fields__:
        if isinstance(table := getattr(config, name), Table):
            yield from inner(name, table)


def _check_effects(config: Any, path: str, table: Table) -> None:
    """Refuse keys of a table that have no effect."""
    defaults = _defaults(type(table))
    for key, needs in by_key(table.effective):
        value = getattr(table, key, None)
        if value == defaults.get(key, value):
            continue
        for other, need in in_full(needs):
            if (misfit := _misfit(config, other, need)) is not msgspec.UNSET:
                raise InputError(
                    f"{path}.{key}: {_shown(value)} has no effect with {other} {_shown(misfit)}; it needs "
                    f"{need.needed}"
                )


def _required(path: str, table: Table) -> Iterator[tuple[str, Needs]]:
    """Yield the requirements of a table's keys with other values than their defaults, and their owners."""
    defaults = _defaults(type(table))
    for key, needs in by_key(table.requires):
        value = getattr(table, key)
        if key not in defaults or value != defaults[key]:
            yield f"{path}.{key} {_shown(value)}", needs


def _misfit(config: Any, key: str, need: Need) -> Any:
    """Return a value that violates a requirement; UNSET if none does, or the table's kind has no such key."""
    *path, last = key.split(".")
    table = functools.reduce(getattr, path, config)
    value = getattr(table, last, msgspec.UNSET)
    if value is msgspec.UNSET or (need.when is not None and not need.when(config)):
        return msgspec.UNSET
    pairs = [(value, table if need.of_kind else value)]
    if key == "wire.dtype":  # of every layer
        pairs = list(zip(table.formats, table.kinds() if need.of_kind else table.formats, strict=True))
    return next((each for each, tested in pairs if not need.test(tested, config)), msgspec.UNSET)


@functools.cache
def _defaults(table: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the default of each key; cached, as msgspec evaluates annotations at each call."""
    return {field.encode_name: _default(field) for field in msgspec.structs.fields(table)}


def _default(field: Any) -> Any:
    factory = field.default_factory
    return field.default if factory is msgspec.NODEFAULT else factory()


def _shown(value: Any) -> str:
    """Format a value for a message, as in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    return repr(value.kind) if isinstance(value, building.Kind) else short_repr(value)
