"""A SavedModel as a model: its functions or signatures `embed_user`, `embed_item` and `score`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nann.errors import InvalidFileError
from nann.files import without_patterns
from nann.run.guard import own_code

if TYPE_CHECKING:
    import tensorflow as tf

Tensors = Mapping[str, Any]
_ITEM_NAMES = ("item_embs", "item")
_FUNCTIONS = ("embed_user", "embed_item", "score")


class SavedModel:
    """What `"model": "saved_model:DIR"` in run.json names: a `RetrievalModel` without Python of its own.

    `score` is needed; without `embed_user` users are embedded elsewhere. Inputs are told apart by their
    names. Of `score`, the item embeddings are called item_embs or item. Its state is that of one user, or,
    where its shapes begin with an open dimension, that of a batch of pairs.

    Example: `SavedModel(Path("RUN/saved_model")).user_state`. Raises InvalidFileError.
    """

    def __init__(self, folder: Path) -> None:
        self._loaded = _loaded(folder)  # owns the variables and tables
        self._functions = {
            name: _Function(folder, name, found)
            for name in _FUNCTIONS
            if (found := _concrete(self._loaded, name)) is not None
        }
        if "score" not in self._functions:
            signatures = ", ".join(self._loaded.signatures) or "no signatures"
            raise InvalidFileError(
                f"{folder}: expected a function or signature called score, found {signatures}. Save the "
                f"model with tf.function(score, input_signature=...), or with signatures of these names: "
                f"{', '.join(_FUNCTIONS)}."
            )
        score = self._functions["score"]
        self._item = _item_name(folder, score)
        self.embedding_dim = score.inputs[self._item].shape[-1]
        self._declare(score)

    def _declare(self, score: _Function) -> None:
        import tensorflow as tf

        embed_user = self._functions.get("embed_user")
        others = {name: spec for name, spec in score.inputs.items() if name != self._item}
        states = (
            others if embed_user is None else {n: s for n, s in others.items() if n in embed_user.outputs}
        )
        # A user's state has fixed shapes: an open first dimension is that of a batch.
        self._is_batch = any(spec.shape.rank and spec.shape[0] is None for spec in states.values())
        drop = 1 if self._is_batch else 0
        self.user_state = {name: tf.TensorSpec(s.shape[drop:], s.dtype) for name, s in states.items()}
        self.user_features = {}
        if embed_user is not None:
            self.user_features = {
                n: tf.TensorSpec(s.shape[1:], s.dtype) for n, s in embed_user.inputs.items()
            }
        items = {name: spec for name, spec in others.items() if name not in states}
        self.item_state = {name: tf.TensorSpec(spec.shape[1:], spec.dtype) for name, spec in items.items()}

    def embed_user(self, features: Tensors) -> Tensors:
        """Features [B, ...] -> state [B, ...]."""
        found = self._functions["embed_user"](features)
        return {name: found[name] for name in self.user_state}

    def embed_item(self, features: Tensors) -> Any:
        """Features of n items -> [n, D]."""
        found = self._functions["embed_item"](features)
        return next(iter(found.values())) if len(found) == 1 else found

    def score(self, user_state: Tensors, item_embs: Any, item_state: Tensors | None = None) -> Any:
        """One user's state and n items [n, D] -> [n]."""
        import tensorflow as tf

        state = dict(user_state)
        if self._is_batch:
            n = tf.shape(item_embs)[0]
            state = {name: tf.repeat(value[tf.newaxis], n, axis=0) for name, value in state.items()}
        found = self._functions["score"]({**state, **(item_state or {}), self._item: item_embs})
        scores = next(iter(found.values())) if len(found) == 1 else found
        if isinstance(scores, Mapping):
            return scores
        return scores[:, 0] if scores.shape.rank == 2 and scores.shape[1] == 1 else scores


def _loaded(folder: Path) -> Any:
    import tensorflow as tf

    if not (folder / "saved_model.pb").is_file():
        raise InvalidFileError(
            f"{folder}: expected a SavedModel, found no saved_model.pb. Correct the folder in run.json; it "
            f"is relative to the run."
        )
    with own_code(f"{folder}", lambda: "tf.saved_model.load"), without_patterns(folder) as found_by:
        return tf.saved_model.load(str(found_by))


def _item_name(folder: Path, score: _Function) -> str:
    """What `score` calls the item embeddings."""
    for name in _ITEM_NAMES:
        if name in score.inputs:
            return name
    raise InvalidFileError(
        f"{folder}: score: expected an input called {' or '.join(_ITEM_NAMES)}, found "
        f"{', '.join(score.inputs)}. Name the argument so."
    )


class _Function:
    """A concrete function whose inputs and outputs have names.

    inputs, outputs: name -> tf.TensorSpec, with the batch.
    """

    def __init__(self, folder: Path, name: str, function: Any) -> None:
        self._function = function
        self._structure = function.structured_input_signature
        self.inputs = dict(_leaves(self._structure, ""))
        outputs = function.structured_outputs
        self._single = not isinstance(outputs, Mapping)
        self.outputs: dict[str, tf.TensorSpec] = {name: outputs} if self._single else dict(outputs)

    def __call__(self, values: Tensors) -> dict[str, Any]:
        arguments, options = _filled(self._structure, values, "")
        found = self._function(*arguments, **options)
        return {"": found} if self._single else dict(found)


def _concrete(loaded: Any, name: str) -> Any | None:
    """The most general function `name` of a loaded SavedModel, else its signature."""
    found = getattr(loaded, name, None)
    traced = list(getattr(found, "concrete_functions", None) or [])
    if traced:
        return max(
            traced, key=lambda each: sum(_is_open(s) for _, s in _leaves(each.structured_input_signature, ""))
        )
    return loaded.signatures.get(name)


def _is_open(spec: Any) -> bool:
    return spec.shape.rank is not None and not spec.shape.is_fully_defined()


def _leaves(structure: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(name, TensorSpec) of every tensor: the key of the dict that holds it, else the argument's name."""
    if isinstance(structure, Mapping):
        for key, each in structure.items():
            yield from _leaves(each, str(key))
    elif isinstance(structure, list | tuple):
        for each in structure:
            yield from _leaves(each, "")
    elif hasattr(structure, "shape") and hasattr(structure, "dtype"):
        yield name or structure.name, structure


def _filled(structure: Any, values: Tensors, name: str) -> Any:
    """The structure with tensors in the place of their descriptions."""
    import tensorflow as tf

    if isinstance(structure, Mapping):
        return {key: _filled(each, values, str(key)) for key, each in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)([_filled(each, values, "") for each in structure])
    if hasattr(structure, "shape") and hasattr(structure, "dtype"):
        return tf.cast(values[name or structure.name], structure.dtype)
    return structure
