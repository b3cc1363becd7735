"""Keras networks as a model: a user network, an item network and a scorer of a batch of pairs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nann.errors import InvalidFileError, InvalidInputError
from nann.run.guard import described, own_code
from nann.run.keras_files import load_network

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Tensors = Mapping[str, Any]
_KERAS = ("keras.", "tf_keras.")
ITEM = "item"
USER = "user"
# Names that Keras makes up.
_NO_NAME = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?")
# What Keras warns of where a network was cut: the tensors' names are not the keys. Here the keys count.
_OF_NAMES = "When providing `inputs` as a dict, all keys in the dict must match"
_CUT = (
    "Cut it at its layers into a user network, an item network and a scorer of their outputs "
    "(docs/your-model.md#bring-your-ranking-model-keras)."
)


def from_keras(
    *,
    user: keras.Model | None = None,
    item: keras.Model | None = None,
    scorer: keras.Model | None = None,
    user_features: Mapping[str, tf.TensorSpec] | None = None,
    embedding_dim: int | None = None,
) -> KerasModel:
    """A model of Keras networks as they are: functional, Sequential or subclassed; also of tf_keras.

    user:   features [B, ...] by name -> the user's state, a dict of tensors [B, ...] or one tensor, which is
            then called "user" or as the scorer's input is. None: users are embedded elsewhere.
    item:   features of items -> item embeddings [B, D].
    scorer: {"item": [B, D], and each tensor of the state by its name} -> scores [B] or [B, 1]; None: the
            inner product of the user's and the item's vector.
    user_features: of one user, for a user network that does not say their names and shapes: a subclassed one,
            or a Sequential one without keras.Input.
    embedding_dim: D, where neither the item network nor the scorer says it.

    Raises InvalidInputError when the networks do not fit together.

    Example:
      >>> ids = keras.Input([5], dtype="int64", name="item_ids")
      >>> user = keras.Model(ids, keras.ops.mean(keras.layers.Embedding(61, 8)(ids), axis=1))
      >>> model = from_keras(user=user, embedding_dim=8)
      >>> {name: spec.shape.as_list() for name, spec in model.user_state.items()}
      {'user': [8]}
    """
    return KerasModel(user, item, scorer, user_features=user_features, embedding_dim=embedding_dim)


def load_keras(folder: Path) -> KerasModel:
    """`from_keras` of `user.keras`, `item.keras` and `scorer.keras` in `folder`, as far as they are there."""
    names = ("user", "item", "scorer")
    files = {name: folder / f"{name}.keras" for name in names}
    return load_keras_files({name: file for name, file in files.items() if file.is_file()}, folder)


def load_keras_files(files: Mapping[str, Path], where: Path) -> KerasModel:
    """`from_keras` of saved networks: "user", "item", "scorer" -> .keras file. Raises InvalidFileError."""
    if not files.keys() & {"user", "scorer"}:
        raise InvalidFileError(
            f"{where}: expected user.keras or scorer.keras, found neither. Save the networks there by "
            f"network.save(...)."
        )
    networks = {}
    for name, file in files.items():
        if not file.is_file():
            raise InvalidFileError(
                f"{file}: expected a network of Keras, found no file. Save it by network.save({file.name!r})."
            )
        with _names_known():
            networks[name] = load_network(file)
    return from_keras(**networks)


class KerasModel:
    """What `from_keras` returns: a `RetrievalModel`."""

    def __init__(
        self,
        user: keras.Model | None,
        item: keras.Model | None,
        scorer: keras.Model | None,
        *,
        user_features: Mapping[str, tf.TensorSpec] | None = None,
        embedding_dim: int | None = None,
    ) -> None:
        if user is None and scorer is None:
            raise InvalidInputError(
                "from_keras: expected a user network or a scorer, found neither. Name one."
            )
        self._user, self._item, self._scorer = user, item, scorer
        self._training = False
        self._inputs = None if scorer is None else _named_inputs(scorer, "scorer")
        self.user_features = {} if user is None else _features(user, user_features)
        self.user_state = self._state()
        if scorer is None:
            self._check_vector()
        self.embedding_dim = self._width() if embedding_dim is None else embedding_dim

    @property
    def variables(self) -> list[Any]:
        """Of all networks, each once: networks may share layers."""
        return self._of_networks("variables")

    @property
    def trainable_variables(self) -> list[Any]:
        """The same of those that are trained."""
        return self._of_networks("trainable_variables")

    def _of_networks(self, name: str) -> list[Any]:
        networks = [each for each in (self._user, self._item, self._scorer) if each is not None]
        return list({id(each): each for network in networks for each in getattr(network, name)}.values())

    @contextmanager
    def training_mode(self) -> Iterator[None]:
        """Within, the networks run as in training: dropout drops, batch norms learn. Not for threads."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    def embed_user(self, features: Tensors) -> Tensors:
        """Features [B, ...] -> state [B, ...]."""
        if self._user is None:
            raise InvalidInputError("embed_user: expected a user network, found none. Send the user's state.")
        return self._state_of(_called(self._user, features, training=self._training))

    def embed_item(self, features: Tensors) -> Any:
        """Features of n items -> [n, D]."""
        if self._item is None:
            raise InvalidInputError("embed_item: expected an item network, found none. Give from_keras one.")
        return _called(self._item, features, training=self._training)

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        """One user's state, repeated for each of n items [n, D] -> [n]."""
        import tensorflow as tf

        if self._scorer is None:
            return tf.linalg.matvec(item_embs, next(iter(user_state.values())))
        n = tf.shape(item_embs)[0]
        users = {name: tf.repeat(value[tf.newaxis], n, axis=0) for name, value in user_state.items()}
        return self.score_pairs(users, item_embs)

    def score_pairs(self, user_state: Tensors, item_embs: Any) -> Any:
        """State [B, ...] and item embeddings [B, D] of B pairs -> [B]."""
        import tensorflow as tf

        if self._scorer is None:
            return tf.reduce_sum(next(iter(user_state.values())) * item_embs, axis=1)
        scores = _called(self._scorer, {**user_state, ITEM: item_embs}, training=self._training)
        if not hasattr(scores, "shape"):
            return scores  # who calls this says what is wrong with it
        return scores[:, 0] if scores.shape.rank == 2 and scores.shape[1] == 1 else scores

    def _state(self) -> dict[str, tf.TensorSpec]:
        """The user's state as the user network returns it, else as the scorer takes it."""
        import tensorflow as tf

        wanted = None if self._inputs is None else _without_item(self._inputs)
        if self._user is None:
            return _state_of_scorer(wanted)
        with own_code("user", lambda: described(self.user_features)):
            outputs = _outputs(self._user, self.user_features)
        self._name = next(iter(wanted)) if wanted is not None and len(wanted) == 1 else USER
        state = self._state_of(outputs)
        if wanted is not None and set(wanted) != set(state):
            raise InvalidInputError(
                f"scorer: expected inputs as the user network's outputs are called, {', '.join(state)}, and "
                f'"{ITEM}", found {", ".join(self._inputs or [])}. {self._advice_of_names(wanted, state)}'
            )
        return {name: tf.TensorSpec(each.shape[1:], each.dtype) for name, each in state.items()}

    def _check_vector(self) -> None:
        """Raise InvalidInputError where the user network's output is nothing to multiply with an item."""
        shapes = {name: spec.shape.as_list() for name, spec in self.user_state.items()}
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        expected = "user: expected one vector [D], for without a scorer the score is an inner product"
        if list(shapes.values()) == [[1]]:
            raise InvalidInputError(f"{expected}, found {found}, as a whole ranking network has it. {_CUT}")
        if len(shapes) != 1 or len(next(iter(shapes.values()))) != 1:
            raise InvalidInputError(f"{expected}, found {found}. Give from_keras a scorer.")

    def _advice_of_names(self, wanted: Mapping[str, Any], state: Mapping[str, Any]) -> str:
        """What to do about a scorer that reads other tensors than the user network makes."""
        extra = [name for name in wanted if name not in state]
        if set(extra) & set(self.user_features):
            return f"A scorer reads no features of the user. {_CUT}"
        if not extra or len(extra) == len(wanted) == len(state):
            return "Give both the same names."
        return (
            f"What describes the user is an output of the user network by that name. If {', '.join(extra)} "
            f'describe the item, cut the network behind them, so that "{ITEM}" holds them, or write a class '
            f"with item_state (docs/your-model.md#item-state)."
        )

    def _state_of(self, outputs: Any) -> Tensors:
        return outputs if isinstance(outputs, Mapping) else {self._name: outputs}

    def _width(self) -> int:
        shape = None
        if self._inputs is not None:
            shape = self._inputs[ITEM].shape
        elif self._item is not None and getattr(self._item, "outputs", None):
            shape = self._item.outputs[0].shape
        elif self._scorer is None:
            shape = next(iter(self.user_state.values())).shape
        if shape is None or shape[-1] is None:
            raise InvalidInputError(
                "embedding_dim: expected a functional item network or scorer that says it, found neither. "
                "Give from_keras embedding_dim=D."
            )
        return int(shape[-1])


def _without_item(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a scorer that are the user's state."""
    whole = [name for name, tensor in inputs.items() if name == ITEM and not _is_embedding(tensor)]
    if ITEM not in inputs and any(_is_raw(tensor) for tensor in inputs.values()):
        whole = list(inputs)
    if whole:
        raise InvalidInputError(
            f'scorer: expected an input called "{ITEM}", the item embedding, float [B, D], found '
            f"{', '.join(_described_input(name, inputs[name]) for name in whole)}, as a whole ranking "
            f"network has. {_CUT}"
        )
    if ITEM not in inputs:
        raise InvalidInputError(
            f'scorer: expected an input called "{ITEM}", the item embedding, found {", ".join(inputs)}. Name '
            f"it: keras.Input([D], name={ITEM!r})."
        )
    return {name: tensor for name, tensor in inputs.items() if name != ITEM}


def _is_raw(tensor: Any) -> bool:
    """Whether an input is a feature: an id, a code or a string."""
    import tensorflow as tf

    dtype = tf.as_dtype(tensor.dtype)
    return not (dtype.is_floating or dtype.is_bool)


def _is_embedding(tensor: Any) -> bool:
    return not _is_raw(tensor) and len(tensor.shape) == 2


def _described_input(name: str, tensor: Any) -> str:
    import tensorflow as tf

    sizes = ", ".join("?" if size is None else str(size) for size in tensor.shape)
    return f"{name} {tf.as_dtype(tensor.dtype).name} [{sizes}]"


@contextmanager
def _names_known() -> Iterator[None]:
    """Without Keras' warning of the names of a cut network, which its author has read when cutting it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", re.escape(_OF_NAMES))
        yield


def _state_of_scorer(inputs: Mapping[str, Any] | None) -> dict[str, tf.TensorSpec]:
    """The user's state as the scorer takes it; None: a subclassed scorer."""
    import tensorflow as tf

    if inputs is None:
        raise InvalidInputError(
            "scorer: expected a functional network, for no user network says what the state is, found a "
            "subclassed one. Give from_keras a user network too."
        )
    return {name: tf.TensorSpec(each.shape[1:], each.dtype) for name, each in inputs.items()}


def _named_inputs(network: Any, what: str) -> dict[str, Any] | None:
    """The inputs of a functional or Sequential network by name; None of a subclassed one."""
    structure = _structure(network, what)
    if structure is None:
        return None
    if isinstance(structure, Mapping):
        return dict(structure)
    tensors = _tensors(structure)
    for tensor in tensors:
        if _NO_NAME.fullmatch(tensor.name):
            raise InvalidInputError(
                f"{what}: expected inputs with names, found {tensor.name}. Name each: keras.Input(..., "
                f"name='item_ids'). The only input of a user network may be named by "
                f"user_features={{'item_ids': tf.TensorSpec(...)}} instead."
            )
    return {tensor.name: tensor for tensor in tensors}


def _features(user: Any, declared: Mapping[str, tf.TensorSpec] | None) -> dict[str, tf.TensorSpec]:
    import tensorflow as tf

    structure = _structure(user, "user")
    if declared is not None and (structure is None or len(declared) == len(_tensors(structure)) == 1):
        return dict(declared)
    inputs = _named_inputs(user, "user")
    if inputs is None:
        raise InvalidInputError(
            "user: expected a functional or Sequential network, whose inputs have names and shapes, found a "
            "subclassed one. Give from_keras user_features={'item_ids': tf.TensorSpec([L], tf.int64)} too."
        )
    if declared is not None and set(declared) != set(inputs):
        raise InvalidInputError(
            f"user_features: expected the inputs of the user network, {', '.join(inputs)}, found "
            f"{', '.join(declared)}. Leave user_features out: the network says them."
        )
    of_network = {name: tf.TensorSpec(each.shape[1:], each.dtype) for name, each in inputs.items()}
    return of_network if declared is None else dict(declared)


def _called(network: Any, values: Tensors, *, training: bool = False) -> Any:
    """Call a network with tensors by name, in the structure that it takes."""
    import keras

    structure = _structure(network, "network")
    if structure is None:
        takes_one = len(values) == 1 and "Sequential" in _keras_classes(network)
        return network(next(iter(values.values())) if takes_one else dict(values), training=training)
    if isinstance(structure, Mapping):
        # A data set may have more features of items than the network takes.
        taken = {name: value for name, value in values.items() if name in structure}
        return network(taken, training=training)
    if len(values) == len(_tensors(structure)) == 1:
        return network(next(iter(values.values())), training=training)
    return network(keras.tree.map_structure(lambda each: values[each.name], structure), training=training)


def _structure(network: Any, what: str) -> Any | None:
    """The inputs of a network in the structure that it takes; None: subclassed, or a Sequential not built."""
    classes = _keras_classes(network)
    if "Model" not in classes:
        raise InvalidInputError(
            f"{what}: expected a keras.Model, found {described(network)}. Write a class with the functions "
            f"of nann.export.RetrievalModel for anything else."
        )
    if not getattr(network, "inputs", None):
        return None
    return network.inputs[0] if "Sequential" in classes else network.input


def _keras_classes(network: Any) -> set[str]:
    """By name: Keras 2 is a package of its own, tf_keras, which need not be installed."""
    return {each.__name__ for each in type(network).__mro__ if each.__module__.startswith(_KERAS)}


def _tensors(structure: Any) -> list[Any]:
    import keras

    return list(keras.tree.flatten(structure))


def _outputs(network: Any, features: Mapping[str, tf.TensorSpec]) -> Any:
    """What a network makes of features: symbolic tensors [B, ...]."""
    import tensorflow as tf

    specs = {
        name: tf.TensorSpec([None, *spec.shape.as_list()], spec.dtype) for name, spec in features.items()
    }
    traced: Callable[..., Any] = tf.function(lambda values: _called(network, values), autograph=False)
    return traced.get_concrete_function(specs).structured_outputs  # type: ignore[attr-defined]
