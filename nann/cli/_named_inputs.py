"""What a refused query says of the names of its inputs, by what the model's signature takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from nann.errors import InvalidInputError

if TYPE_CHECKING:
    from nann.serving.client import ModelMetadata, TensorSpec

# Filled in by the client, or options of their own.
_NO_FEATURES = {"level_topn", "exclude_ids", "filter"}


def inputs_of(targets: Sequence[str], model: str, call: dict[str, Any]) -> Mapping[str, TensorSpec]:
    """Return what the signature of a query by features takes; nothing if the model has none.

    targets: servers of the model, of which the first that answers is believed.

    The other arguments are those of `inputs_named`. NannClientError: no server says.
    """
    from nann.serving.client import UnavailableError

    metadata = None
    for target in targets[:-1]:
        with suppress(UnavailableError):
            metadata = _metadata_of(target, model, call)
            break
    metadata = metadata or _metadata_of(targets[-1], model, call)
    signature = metadata.signatures.get(_signature(call, by_ids=True))
    return {} if signature is None else signature.inputs


def _metadata_of(target: str, model: str, call: dict[str, Any]) -> ModelMetadata:
    from nann.serving.client import NannClient

    with NannClient(target, model=model) as client:
        return client.metadata(version=call["version"], timeout=call["timeout"])


def _signature(call: dict[str, Any], *, by_ids: bool) -> str:
    return ("retrieve_by_ids" if by_ids else "retrieve") + ("_where" if call["where"] else "")


@contextmanager
def inputs_named(
    target: str, model: str, call: dict[str, Any], *, by_ids: Iterable[str], states: Iterable[str]
) -> Iterator[None]:
    """Within, a query that is refused for the names of its inputs ends in a list of those of the model.

    target, model:  a server of the model, perhaps of one shard, and the model's name.
    call:           the arguments of the query.
    by_ids, states: the names that it sends, of features or of the user's state.
    """
    from nann.serving.client import NannClientError, RequestRejectedError

    try:
        yield
    except (RequestRejectedError, InvalidInputError) as error:
        features = [*by_ids]
        names = features or [*states]
        signature = _signature(call, by_ids=bool(features))
        try:
            metadata = _metadata_of(target, model, call)
        except NannClientError:
            raise error from None
        _check_names(metadata, signature, names, "--feature" if features else "--state", error)
        raise


def _check_names(
    metadata: ModelMetadata, signature: str, names: list[str], option: str, error: Exception
) -> None:
    """Raise InvalidInputError where `names` are not those of the signature."""
    if signature not in metadata.signatures:
        if not names or signature.endswith("_where"):
            return
        raise InvalidInputError(
            f"{option}: expected a model that embeds its users, found no signature {signature}. Give the "
            f"user by state (--comm-seq, --state)."
        ) from error
    inputs = metadata.signatures[signature].inputs
    features = [
        name
        for name in inputs
        if name not in _NO_FEATURES and name.removesuffix("_length") not in set(inputs) - {name}
    ]
    unknown = [name for name in names if name not in inputs]
    missing = [name for name in features if name not in names]
    if not unknown and (not missing or not names):
        return
    wrong = ", ".join(unknown) if unknown else f"no {', '.join(missing)}"
    like = (unknown or missing)[0]
    nearest = sorted(features, key=lambda name: -difflib.SequenceMatcher(None, like, name).ratio())
    described = ", ".join(
        f"{name} {inputs[name].dtype} {_shape(inputs[name].shape)}".rstrip() for name in nearest
    )
    raise InvalidInputError(
        f"{option}: expected the inputs of the model's {signature}, found {wrong}. It takes {described}."
    ) from error


def _shape(shape: tuple[int, ...] | None) -> str:
    """The shape of one user: "[20]", "[any length]", and nothing for one value."""
    sizes = [] if shape is None else [str(size) if size >= 0 else "any length" for size in shape[1:]]
    return f"[{', '.join(sizes)}]" if sizes else ""
