"""`--config FILE`: a command's options from a TOML file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from nann.errors import InvalidFileError


def _read_options(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Take the options' defaults from a TOML file; options on the command line override them."""
    if path is None:
        return
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidFileError(
            f"{path}: expected a TOML file of options, found: {error}. Correct the file."
        ) from error
    options = {_long_name(option): option for option in ctx.command.params if option is not param}
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        option = options.get(key.replace("_", "-"))
        if option is None or option.name is None:
            known = ", ".join(sorted(options))
            raise InvalidFileError(
                f"{path}: expected options of this command, {known}; found {key!r}. Correct the name."
            )
        many = getattr(option, "multiple", False)
        defaults[option.name] = _each_as_text(value) if many else _as_text(value)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _long_name(option: click.Parameter) -> str:
    """`--level-topn` -> "level-topn"."""
    return max(option.opts, key=len).lstrip("-")


def _as_text(value: Any) -> Any:
    """A value in the command line's notation."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _each_as_text(values: Any) -> list[Any]:
    """The values of an option that may be given several times; a table is one of NAME=VALUE."""
    if isinstance(values, dict):
        return [f"{name}={json.dumps(value)}" for name, value in values.items()]
    return [_as_text(value) for value in (values if isinstance(values, list) else [values])]


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_read_options,
    help="TOML file with options of this command by their long names; the command line overrides it.",
)
