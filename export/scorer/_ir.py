"""A scorer as a graph of immutable, hash-consed nodes: equal expressions are one object.

Operations in lower case are ours (see `_ops`): few, of known shapes, so that rewrites are short. Operations
in CamelCase are TensorFlow's, kept as they are with their attributes.
"""

from __future__ import annotations

import enum
import hashlib
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import NannError

Shape = tuple[int, ...]
Array = npt.NDArray[Any]


class Needs(enum.Flag):
    """What a node is computed from."""

    NOTHING = 0
    USER = enum.auto()
    ITEM = enum.auto()


@dataclass(frozen=True)
class Spec:
    """dtype, and the shape where all of it is known."""

    dtype: tf.DType
    shape: Shape | None


class Node:
    """One operation. Made by `make`, `constant` and `source` only; compared by identity.

    name: of the TensorFlow node that it came from, for reports; not part of what the node is.
    """

    __slots__ = ("__weakref__", "attrs", "inputs", "name", "needs", "op", "outputs", "value")

    op: str
    inputs: tuple[Tensor, ...]
    attrs: dict[str, Any]
    outputs: tuple[Spec, ...]
    needs: Needs
    value: Array | None
    name: str

    def __repr__(self) -> str:
        shapes = ", ".join(str(list(s.shape)) if s.shape is not None else "?" for s in self.outputs)
        return f"{self.op}({self.name or '...'}) {shapes}"


class NotSplittableError(NannError):
    """The graph holds what must not be moved or run another number of times; the message says what."""


class OpenShapeError(NotSplittableError):
    """A form asks for a shape that only a request knows."""


@dataclass(frozen=True)
class Tensor:
    """One output of a node."""

    node: Node
    index: int = 0

    @property
    def op(self) -> str:
        return self.node.op

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.node.inputs

    @property
    def dtype(self) -> tf.DType:
        return self.node.outputs[self.index].dtype

    @property
    def known_shape(self) -> Shape | None:
        return self.node.outputs[self.index].shape

    @property
    def shape(self) -> Shape:
        """Raises OpenShapeError where only a request knows it."""
        shape = self.known_shape
        if shape is None:
            raise OpenShapeError(f"node {self.node.name or '...'} ({self.op}): a tensor of open shape")
        return shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def value(self) -> Array | None:
        """The array of a constant, else None."""
        return self.node.value

    @property
    def needs(self) -> Needs:
        return self.node.needs

    @property
    def is_free(self) -> bool:
        """Whether it is the same for all items: a constant, or of the user only."""
        return not self.needs & Needs.ITEM

    @property
    def is_item_only(self) -> bool:
        return self.needs == Needs.ITEM

    @property
    def is_of_both(self) -> bool:
        """Whether user and item make it together."""
        return self.needs == Needs.USER | Needs.ITEM


Uses = Counter[Tensor]
_nodes: weakref.WeakValueDictionary[Any, Node] = weakref.WeakValueDictionary()


def make(
    op: str, inputs: Iterable[Tensor], outputs: Sequence[Spec], attrs: dict[str, Any] | None = None
) -> Node:
    """The node of this operation; `attrs` has hashable values."""
    inputs, attrs = tuple(inputs), attrs or {}
    needs = Needs.NOTHING
    for tensor in inputs:
        needs |= tensor.needs
    key = (op, inputs, tuple(sorted(attrs.items())), tuple(outputs))
    return _interned(key, op, inputs, attrs, outputs, needs, None)


def constant(value: Any, dtype: Any = None) -> Tensor:
    """A constant; the array must not change afterwards."""
    array = np.asarray(value, dtype)
    spec = Spec(tf.as_dtype(array.dtype), array.shape)
    content = tuple(array.flat) if array.dtype == object else np.ascontiguousarray(array).tobytes()
    digest = hashlib.sha1(content).digest() if isinstance(content, bytes) else content
    return Tensor(_interned(("const", spec, digest), "const", (), {}, [spec], Needs.NOTHING, array))


def source(name: str, spec: Spec, needs: Needs) -> Tensor:
    """An input of the scorer."""
    node = _interned(("source", name, spec, needs), "source", (), {}, [spec], needs, None)
    node.name = name
    return Tensor(node)


def _interned(
    key: Any,
    op: str,
    inputs: tuple[Tensor, ...],
    attrs: dict[str, Any],
    outputs: Sequence[Spec],
    needs: Needs,
    value: Array | None,
) -> Node:
    node = _nodes.get(key)
    if node is None:
        node = Node()
        node.op, node.inputs, node.attrs, node.outputs = op, inputs, attrs, tuple(outputs)
        node.needs, node.value, node.name = needs, value, ""
        _nodes[key] = node
    return node


def same_op(node: Node, inputs: Sequence[Tensor]) -> Node:
    """TensorFlow's operation `node` on other inputs of the same shapes."""
    if tuple(inputs) == node.inputs:
        return node
    copy = make(node.op, inputs, node.outputs, node.attrs)
    copy.name = copy.name or node.name
    return copy


def name_new(tensor: Tensor, name: str) -> Tensor:
    """Give all that is new in `tensor` the name of what it stands for."""
    for node in topological([tensor], stop=lambda each: bool(each.node.name)):
        node.name = name
    return tensor


def topological(outputs: Iterable[Tensor], *, stop: Callable[[Tensor], bool] | None = None) -> list[Node]:
    """All nodes that `outputs` are computed from, inputs before those that read them.

    stop: tensors that are not looked behind; their nodes are left out.
    """
    ordered: list[Node] = []
    seen: set[Node] = set()
    pending = [(tensor, False) for tensor in reversed(list(outputs))]
    while pending:
        tensor, done = pending.pop()
        if done:
            ordered.append(tensor.node)
        elif tensor.node not in seen and not (stop is not None and stop(tensor)):
            seen.add(tensor.node)
            pending.append((tensor, True))
            pending += [(each, False) for each in reversed(tensor.inputs)]
    return ordered


def count_uses(outputs: Sequence[Tensor]) -> Uses:
    """How often each tensor is read; being an output counts."""
    uses: Uses = Counter(outputs)
    for node in topological(outputs):
        uses.update(node.inputs)
    return uses
