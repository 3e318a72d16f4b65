"""Names of a package that are imported when they are first asked for.

A command then says what is wrong with its arguments, or prints its help, without the seconds that
torch takes to import, and a message of `attnrec.runtime.errors` needs no onnxruntime.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def on_first_use(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A `__getattr__` for `package`, whose names are in these modules of it."""
    module_of = {name: module for module, inside in names.items() for name in inside}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
