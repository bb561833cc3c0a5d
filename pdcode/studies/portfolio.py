"""The portfolio: the schemes that plans and benchmarks try, each declared by its own class.

A name is what ``pdcode compare --schemes`` takes, see `named_candidates`.
"""

from collections.abc import Mapping

from ..config import kinds

OURS = "lwpd"  # the scheme whose presets are no rivals


def labels() -> dict[str, str]:
    """Return the label of each entrant by its name, also of entrants of plug-ins that are loaded."""
    return {
        f"{scheme}{keys}": label
        for scheme in kinds.names("schemes")
        for label, keys in vars(kinds.find("schemes", scheme)).get("entrants", {}).items()
    }


def rivals() -> Mapping[str, Mapping[str, str]]:
    """Return the names of all entrants but ours by label: plain entrants, and entrants that whiten."""
    found: dict[str, dict[str, str]] = {"plain": {}, "armed": {}}
    for name, label in labels().items():
        if name.partition(":")[0] != OURS:
            found["armed" if whitens(name) else "plain"][label] = name
    return found


def whitens(name: str) -> bool:
    """Return whether an entrant whitens gradients."""
    spec, *changes = name.split("/")
    scheme, _, preset = spec.partition(":")
    tables = kinds.find("schemes", scheme).presets.get(preset, {})
    given = tables.get("code", {}).get("whiten", "none") != "none"
    return given or any(change.startswith("code.whiten=") for change in changes)
