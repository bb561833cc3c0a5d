"""Kinds (shim until the branch he is merged)."""

from importlib import import_module
from typing import Any

KINDS = {
    "schemes": {
        "lwpd": "pdcode.schemes.lwpd:LWPD",
        "uncoded": "pdcode.schemes.uncoded:Uncoded",
        "topk": "pdcode.schemes.topk:TopK",
        "local": "pdcode.schemes.local:Local",
        "cyclic": "pdcode.schemes.cyclic:Cyclic",
    },
}


def find(group: str, name: str) -> Any:
    found = KINDS[group].get(name)
    if found is None:
        return None
    module, _, attribute = found.partition(":")
    return getattr(import_module(module), attribute)


def names(group: str) -> list[str]:
    return list(KINDS[group])
