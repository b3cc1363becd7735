"""Models by name: the shipped ones and a user's own class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nann.errors import InvalidInputError
from nann.run.guard import own_code
from nann.training._dataset import Dataset
from nann.training._features import describe_columns, table_rows
from nann.training._networks import Networks, sizes_of

ATTENTION = "attention"
SHIPPED: Mapping[str, str] = {
    ATTENTION: "nann.training:ReferenceModel",
    "two-tower": "nann.training:TwoTower",
    "mixture": "nann.training:MixtureOfLogits",
}
"""Name -> class, as run.json has it."""
# The class of a model that a function makes of Keras networks.
_NETWORKS = "nann.training:Networks"


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
            f"model: expected {', '.join(SHIPPED)}, module:Class or module:function, found {name!r}. Name "
            f"one of these."
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InvalidInputError(
            f"model: expected an importable module, found {module_name!r} ({error}). Install the "
            f"package that holds it, or put its folder on PYTHONPATH."
        ) from error
    found: Any = getattr(module, class_name, None)
    if inspect.isfunction(found):
        config = {"function": path, **_config(path, sizes_of(found), dataset, sizes)}
        return ChosenModel(_NETWORKS, Networks, config)
    if not hasattr(found, "create"):
        raise InvalidInputError(
            f"model: expected a class with create(rows, *, seed, ...), or a function that returns "
            f"nann.export.from_keras(...), in {module_name}, found {class_name} = {found!r}. Derive the "
            f"class from nann.training.TrainedModel."
        )
    return ChosenModel(path, found, _config(path, found.sizes(), dataset, sizes))


def _config(path: str, known: list[str], dataset: Dataset, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is created with: tables for the data set, its columns where it takes them, and sizes."""
    given: dict[str, Any] = {"rows": table_rows(dataset)}
    if "columns" in known:
        known.remove("columns")
        given["columns"] = describe_columns(dataset)
    for name in sizes:
        if name not in known:
            raise InvalidInputError(
                f"model {path}: expected sizes {', '.join(known) or 'none'}, found {name!r}."
            )
    return {**given, **sizes}
