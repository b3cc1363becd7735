"""What the client's calls return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nann.serving.client._errors import NannClientError


@dataclass(frozen=True, eq=False)
class TopK:
    """The best items of each user, best first. Unpacks as `ids, scores = result`.

    Attributes:
      ids: int64 [B, k]; -1 pads a row in which fewer than k items were found.
      scores: float32 [B, k]; -inf where `ids` is -1.
      items_scored: int32 [B], items that the model scored for each user; None from a signature that
        does not give it.
      model_version: the version that answered.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    items_scored: NDArray[np.int32] | None
    model_version: int | None

    def __iter__(self) -> Iterator[NDArray[np.int64] | NDArray[np.float32]]:
        return iter((self.ids, self.scores))


@dataclass(frozen=True)
class MissingShard:
    """A shard that a result is without, and why."""

    shard: int
    error: NannClientError


@dataclass(frozen=True, eq=False)
class ShardedTopK(TopK):
    """The best items of each user over several shards.

    `items_scored` is the sum over the shards.

    Attributes:
      missing: the shards that did not answer; their items are not in the result.
    """

    missing: tuple[MissingShard, ...]

    @property
    def is_partial(self) -> bool:
        """Whether a shard is missing."""
        return bool(self.missing)


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of an input or output: `dtype` as TensorFlow names it ("float", "int64"); -1 in
    `shape` is any size; `shape` None is any rank."""

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """One way to call a model."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class ModelMetadata:
    """What the server tells of a model's version."""

    name: str
    version: int | None
    signatures: Mapping[str, Signature]

    def row_width(self, signature: str, name: str) -> int | None:
        """How many values a user's row of an input has; None when the model does not say."""
        known = self.signatures.get(signature)
        spec = known.inputs.get(name) if known is not None else None
        if spec is None or spec.shape is None or len(spec.shape) != 2 or spec.shape[1] < 0:
            return None
        return spec.shape[1]


@dataclass(frozen=True)
class VersionStatus:
    """Where one version of a model is: `state` is START, LOADING, AVAILABLE, UNLOADING or END."""

    version: int
    state: str
    error_code: int
    error_message: str
