"""Calls of functions, written out: a scorer is read and counted as the operations that it is made of."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer

from nann.export.replaced import function_of

_CALLS = frozenset(["PartitionedCall", "StatefulPartitionedCall"])
# What keeps grappler from it: XLA compiles the function, or its author asked for a call.
_KEEPS_CALLS = ("_XlaMustCompile", "_noinline")


def without_calls(function: Any) -> Any:
    """A frozen function whose calls are replaced by their bodies; `function` where that makes none fewer.

    Most calls are written out as variables become constants; those that XLA compiles, and those in the body
    of a loop that has been written out since, are not.
    """
    graph_def = function.graph.as_graph_def()
    calls = _calls(graph_def)
    if not calls:
        return function
    for each in [*graph_def.library.function, *graph_def.node]:
        for attr in _KEEPS_CALLS:
            each.attr.pop(attr, None)
    inlined = _inlined(graph_def, function)
    if _calls(inlined) >= calls:
        return function
    return function_of(inlined, function.inputs, function.outputs)


def _calls(graph_def: Any) -> int:
    return sum(node.op in _CALLS for node in graph_def.node)


def _inlined(graph_def: Any, function: Any) -> Any:
    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=function.graph)
    keep = meta_graph_pb2.CollectionDef()
    keep.node_list.value.extend(tensor.name for tensor in [*function.inputs, *function.outputs])
    meta_graph.collection_def["train_op"].CopyFrom(keep)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta_graph)
