"""What an export asks of the names and shapes that a model declares, and what TensorFlow calls them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export.item_state import check_item_state
from nann.run import RetrievalModel, item_state_of

LEVEL_TOPN = "level_topn"
EXCLUDE_IDS = "exclude_ids"
ITEM_IDS = "item_ids"
FILTER = "filter"


def length_of(feature: str) -> str:
    """The input that says how many values of an open feature a user has."""
    return f"{feature}_length"


def open_features(model: RetrievalModel) -> list[str]:
    """The user features whose first dimension is of any length."""
    return [name for name, spec in model.user_features.items() if None in spec.shape.as_list()]


def check_model_specs(model: RetrievalModel) -> None:
    """Raise InvalidInputError for a name or shape that no signature can have."""
    for what, specs in (("user_features", model.user_features), ("user_state", model.user_state)):
        for name, spec in _checked_mapping(what, specs).items():
            _check_name(what, name)
            _check_spec(what, name, spec, may_be_open=what == "user_features")
    if not model.user_state:
        raise InvalidInputError(
            "user_state: expected at least one tensor, found none. Name what the scorer reads of the user."
        )
    for name, spec in model.user_state.items():
        if spec.dtype in (tf.string, tf.resource, tf.variant) or spec.dtype.is_complex:
            raise InvalidInputError(
                f"user_state {name}: expected numbers, found {spec.dtype.name}. Turn it into numbers in "
                f"embed_user."
            )
    width = model.embedding_dim
    if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
        raise InvalidInputError(
            f"embedding_dim: expected an int of at least 1, the width of an item embedding, found {width!r}. "
            f"Correct the model."
        )
    check_item_state(item_state_of(model))
    for name in item_state_of(model):
        _check_name("item_state", name)
    _check_file_names("user_features", model.user_features)
    _check_file_names("item_state", item_state_of(model))
    reserved = {LEVEL_TOPN, EXCLUDE_IDS}
    lengths = {length_of(name) for name in open_features(model)}
    clashes = reserved & {*model.user_state, *model.user_features, *lengths}
    clashes |= {ITEM_IDS} & set(model.user_state)
    clashes |= lengths & set(model.user_features)
    if clashes:
        raise InvalidInputError(
            f"user_state, user_features: expected names other than {LEVEL_TOPN}, {EXCLUDE_IDS}, the lengths "
            f"of open features and, in user_state, {ITEM_IDS}, found {sorted(clashes)}. Rename them in the "
            f"model."
        )


def _checked_mapping(what: str, specs: Any) -> Mapping[str, Any]:
    if isinstance(specs, Mapping):
        return specs
    raise InvalidInputError(
        f"{what}: expected a mapping of names to tf.TensorSpec, found {type(specs).__name__}. Make it a dict."
    )


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InvalidInputError(
            f"{what}: expected names of printable characters, at least one, found {name!r}. Rename it."
        )


def _check_file_names(what: str, names: Iterable[str]) -> None:
    for name in names:
        if "/" in name:
            raise InvalidInputError(
                f"{what}: expected names without '/', because files are named by them, found {name!r}. "
                f"Rename it."
            )


def _check_spec(what: str, name: str, spec: Any, *, may_be_open: bool) -> None:
    if not isinstance(spec, tf.TensorSpec):
        kind = {tf.RaggedTensorSpec: "ragged tensors", tf.SparseTensorSpec: "sparse tensors"}
        raise InvalidInputError(
            f"{what} {name}: expected tf.TensorSpec of one user, found {kind.get(type(spec), repr(spec))}. "
            f"Take a padded tensor; tf.TensorSpec([None], ...) is of any length."
        )
    if spec.shape.rank is None:
        raise InvalidInputError(f"{what} {name}: expected a shape, found an unknown rank. Name its sizes.")
    if None in spec.shape.as_list()[1 if may_be_open else 0 :]:
        expected = (
            "fixed sizes after the first" if may_be_open else "a fixed shape of one user, without a batch"
        )
        raise InvalidInputError(
            f"{what} {name}: expected {expected}, found {spec.shape}. Name its sizes; a history that score "
            f"reads is a feature of fixed length, or is pooled in embed_user."
        )
    if 0 in spec.shape.as_list() and not may_be_open:
        raise InvalidInputError(
            f"{what} {name}: expected sizes of at least 1, found {spec.shape}. Leave out what has no numbers."
        )


def plain_names(names: Iterable[str], like: str = "input") -> dict[str, str]:
    """Each name -> a name that TensorFlow can trace an argument by: itself where that is possible.

    TensorFlow takes identifiers only, and takes names for equal that differ in capitals alone.
    """
    plain: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        base = re.sub(r"[^A-Za-z0-9_]", "_", name)
        if not base[0].isalpha():
            base = f"{like}_{base.strip('_')}".rstrip("_")
        if keyword.iskeyword(base) or base == "self":
            base += "_"
        unused, number = base, 1
        while unused.lower() in taken:
            number += 1
            unused = f"{base}_{number}"
        taken.add(unused.lower())
        plain[name] = unused
    return plain
