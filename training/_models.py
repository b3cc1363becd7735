"""Models by name: the shipped ones and a user's own class."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nann.errors import InvalidInputError
from nann.run.guard import own_code
from nann.training._dataset import Dataset
from nann.training._features import describe_columns, table_rows

ATTENTION = "attention"
SHIPPED: Mapping[str, str] = {
    ATTENTION: "nann.training:ReferenceModel",
    "two-tower": "nann.training:TwoTower",
    "mixture": "nann.training:MixtureOfLogits",
}
"""Name -> class, as run.json has it."""


@dataclass(frozen=True)
class ChosenModel:
    """A class and what it is created with.

    Attributes:
      name: `module:Class`, as run.json has it.
      config: keyword arguments of the class's `create`, as run.json has them.
    """

    name: str
    model_class: Any
    config: Mapping[str, Any]

    def create(self, seed: int) -> Any:
        """A new model with random weights."""
        with own_code(f"{self.name}.create", lambda: f"{dict(self.config)}"):
            return self.model_class.create(**self.config, seed=seed)


def choose_model(name: str, dataset: Dataset, sizes: Mapping[str, Any]) -> ChosenModel:
    """The model called `name`, with a row for each id of the data set's features.

    Raises:
      InvalidInputError: no such class, a class that cannot be created for a data set, or an unknown size.
    """
    path = SHIPPED.get(name, name)
    module_name, _, class_name = path.partition(":")
    if not class_name:
        raise InvalidInputError(
            f"model: expected {', '.join(SHIPPED)} or module:Class, found {name!r}. Name one of these."
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InvalidInputError(
            f"model: expected an importable module, found {module_name!r} ({error}). Install the "
            f"package that holds it, or put its folder on PYTHONPATH."
        ) from error
    model_class = getattr(module, class_name, None)
    if not hasattr(model_class, "create"):
        raise InvalidInputError(
            f"model: expected a class with create(rows, *, seed, ...) in {module_name}, found {class_name} = "
            f"{model_class!r}. Derive it from nann.training.TrainedModel."
        )
    _check_sizes(path, model_class, sizes)
    return ChosenModel(path, model_class, {**_tables(model_class, dataset), **sizes})


def _tables(model_class: Any, dataset: Dataset) -> dict[str, Any]:
    """What `create` is given of the data set; its columns where it takes them."""
    given: dict[str, Any] = {"rows": table_rows(dataset)}
    if "columns" in model_class.sizes():
        given["columns"] = describe_columns(dataset)
    return given


def _check_sizes(path: str, model_class: Any, sizes: Mapping[str, Any]) -> None:
    known = [name for name in model_class.sizes() if name != "columns"]
    for name in sizes:
        if name not in known:
            raise InvalidInputError(
                f"model {path}: expected sizes {', '.join(known) or 'none'}, found {name!r}."
            )
