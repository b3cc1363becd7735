"""Packages whose names are imported at first use, so that importing one loads nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nann.errors import MissingDependencyError


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]], *, extra: Mapping[str, Sequence[str]] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of `package`: `modules` maps a module to the names that it defines.

    extra: an extra of this distribution -> the modules that only it installs. When one of these is missing,
           MissingDependencyError names the extra.

    Example, in `nann/export/__init__.py`:

        __getattr__ = lazy_names(__name__, {"nann.export.items": ("Items", "read_items")})
    """
    module_of = {name: module for module, names in modules.items() for name in names}
    extra_of = {module: name for name, missing in (extra or {}).items() for module in missing}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(module_of[name])
        except ModuleNotFoundError as error:
            if error.name not in extra_of:
                raise
            raise MissingDependencyError(
                f"{error.name} is not installed. Install it with `pip install nann[{extra_of[error.name]}]`."
            ) from error
        return getattr(module, name)

    return get
