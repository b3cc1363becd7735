"""What several rewrites of a GraphDef need."""

from __future__ import annotations

import hashlib
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
    return with_own_names(tf_optimizer.OptimizeGraph(config, meta_graph))


def with_own_names(graph_def: Any) -> Any:
    """The same graph, its functions renamed by their contents: a process knows one function by a name."""
    library = graph_def.library
    mark = hashlib.sha256(library.SerializeToString(deterministic=True)).hexdigest()[:12]
    names = {each.signature.name: f"{each.signature.name}_{mark}" for each in library.function}
    for body in library.function:
        body.signature.name = names[body.signature.name]
    for each in library.gradient:
        each.function_name = names.get(each.function_name, each.function_name)
        each.gradient_func = names.get(each.gradient_func, each.gradient_func)
    for node in (*graph_def.node, *(node for body in library.function for node in body.node_def)):
        node.op = names.get(node.op, node.op)
        for attr in node.attr.values():
            for called in (attr.func, *attr.list.func):
                if called.name in names:
                    called.name = names[called.name]
    return graph_def
