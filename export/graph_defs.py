"""What several rewrites of a GraphDef need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer


def keep_inputs(node: Any, keep: Callable[[str], bool]) -> None:
    """Drop the inputs of a node, `name`, `name:index` or `^name` to wait for, that are not to be kept."""
    kept = [each for each in node.input if keep(each)]
    del node.input[:]
    node.input.extend(kept)


def is_read(source: str) -> bool:
    """Whether a node reads an input, and does not only wait for it."""
    return not source.startswith("^")


def node_name(source: str) -> str:
    """The node that an input ("node", "node:1" or "^node") comes from."""
    return source.lstrip("^").split(":")[0]


def with_calls_written_out(graph_def: Any, ends: Iterable[Any]) -> Any:
    """The graph with calls of functions replaced by their bodies, as far as grappler does so.

    ends: tensors that it begins and ends with, which keep their names.
    """
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=graph_def)
    keep = meta_graph_pb2.CollectionDef()
    keep.node_list.value.extend(tensor.name for tensor in ends)
    meta_graph.collection_def["train_op"].CopyFrom(keep)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta_graph)
