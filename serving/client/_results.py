"""What the client's calls return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nann.serving.client._errors import NannClientError


@dataclass(frozen=True, eq=False)
class TopK:
    """The best items of each user, best first. Unpacks as `ids, scores = result`.

    Attributes:
      ids: int64 [B, k]. -1 pads a row in which fewer than k items were found.
      scores: float32 [B, k]. -inf where `ids` is -1.
      items_scored: int32 [B], how many items the model scored for each user; None from a signature that does
        not return it, such as "serving_default".
      model_version: the version that answered; None when the server does not say.
      passing: int64 [B], how many items satisfy the filter, excluded ones too; -1 where they were not
        counted, because they are many. None from a search without `where`.
      exact: bool [B], whether every item that passes was scored, so that no better one exists. None from a
        search without `where`.
      applied_segment: number of the last segment that the answer's items have, 0 for the export's own. None
        from an export without an overlay, from "serving_default", and over several shards, which number
        their segments apart.

    Example:
      >>> result = client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      >>> result.ids.shape, result.ids.dtype, result.scores.dtype, result.model_version
      ((1, 10), dtype('int64'), dtype('float32'), 1)
      >>> ids, scores = result
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    items_scored: NDArray[np.int32] | None
    model_version: int | None
    passing: NDArray[np.int64] | None = field(default=None, kw_only=True)
    exact: NDArray[np.bool_] | None = field(default=None, kw_only=True)
    applied_segment: int | None = field(default=None, kw_only=True)

    def __iter__(self) -> Iterator[NDArray[np.int64] | NDArray[np.float32]]:
        return iter((self.ids, self.scores))


@dataclass(frozen=True)
class MissingShard:
    """A shard that is missing from a result, and the reason.

    Attributes:
      shard: the shard's number, counted from 0.
      error: why it did not answer.

    Example:
      >>> with ShardedClient([shards[0], "localhost:1"], retries=0, allow_partial=True) as sharded:
      ...     result = sharded.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      >>> for missing in result.missing:
      ...     print(missing.shard, missing.error.code)
      1 UNAVAILABLE
    """

    shard: int
    error: NannClientError


@dataclass(frozen=True, eq=False)
class ShardedTopK(TopK):
    """The best items of each user over several shards.

    `items_scored` and `passing` are sums over the shards that answered; `exact` is whether all of these were.

    Attributes:
      missing: the shards that did not answer. Their items are not in the result.

    Example:
      >>> with ShardedClient(shards) as sharded:
      ...     result = sharded.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      >>> result.ids.shape, result.missing
      ((1, 10), ())
    """

    missing: tuple[MissingShard, ...]

    @property
    def is_partial(self) -> bool:
        """Whether a shard is missing.

        Example:
          >>> with ShardedClient(shards) as sharded:
          ...     sharded.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10]).is_partial
          False
        """
        return bool(self.missing)


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of an input or output.

    Attributes:
      dtype: the type's name in TensorFlow, such as "float" or "int64".
      shape: -1 stands for any size; None for any rank.

    Example:
      >>> client.metadata().signatures["serving_default"].inputs["comm_seq"]
      TensorSpec(dtype='half', shape=(-1, 40))
    """

    dtype: str
    shape: tuple[int, ...] | None

    @property
    def row_width(self) -> int | None:
        """How many values it has per user, of shape [B, n]; None when the model does not say.

        Example:
          >>> client.metadata().signatures["score"].inputs["comm_seq"].row_width
          40
        """
        if self.shape is None or len(self.shape) != 2 or self.shape[1] < 0:
            return None
        return self.shape[1]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one way to call a model, by name.

    Example:
      >>> signature = client.metadata().signatures["score"]
      >>> sorted(signature.inputs), sorted(signature.outputs)
      (['comm_seq', 'item_ids'], ['scores'])
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class ModelMetadata:
    """What the server says about a version of a model.

    Attributes:
      name: of the model.
      version: the version described; None when the server does not say.
      signatures: the ways to call the model, by name.

    Example:
      >>> metadata = client.metadata()
      >>> metadata.name, metadata.version, "retrieve_by_ids" in metadata.signatures
      ('nann', 1, True)
    """

    name: str
    version: int | None
    signatures: Mapping[str, Signature]

    def input(self, signature: str, name: str) -> TensorSpec | None:
        """Return the type and shape of an input; None when there is none of this name.

        Example:
          >>> client.metadata().input("retrieve_by_ids", "item_ids")
          TensorSpec(dtype='int64', shape=(-1, 5))
        """
        known = self.signatures.get(signature)
        return known.inputs.get(name) if known is not None else None

    def row_width(self, signature: str, name: str) -> int | None:
        """Return how many values an input has per user; None when the model does not say.

        Example:
          >>> client.metadata().row_width("retrieve_by_ids", "item_ids")
          5
        """
        spec = self.input(signature, name)
        return None if spec is None else spec.row_width


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version of a model.

    Attributes:
      version: its number.
      state: "START", "LOADING", "AVAILABLE", "UNLOADING" or "END".
      error_code: number of the gRPC status code with which it failed; 0 when it did not fail.
      error_message: why it failed.

    Example:
      >>> client.status()[0]
      VersionStatus(version=1, state='AVAILABLE', error_code=0, error_message='')
    """

    version: int
    state: str
    error_code: int
    error_message: str
