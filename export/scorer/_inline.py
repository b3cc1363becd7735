"""Calls that XLA compiles, written out: a scorer is read and counted as the operations that it is made of."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer

from nann.export.replaced import function_of

_COMPILED = "_XlaMustCompile"


def without_compiled_calls(function: Any) -> Any:
    """A frozen function whose compiled calls are replaced by their bodies; `function` where it has none."""
    graph_def = function.graph.as_graph_def()
    holders = [*graph_def.library.function, *graph_def.node]
    if not any(_COMPILED in each.attr for each in holders):
        return function
    for each in holders:
        for attr in (_COMPILED, "_noinline"):
            each.attr.pop(attr, None)
    return function_of(_inlined(graph_def, function), function.inputs, function.outputs)


def _inlined(graph_def: Any, function: Any) -> Any:
    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=function.graph)
    keep = meta_graph_pb2.CollectionDef()
    keep.node_list.value.extend(tensor.name for tensor in [*function.inputs, *function.outputs])
    meta_graph.collection_def["train_op"].CopyFrom(keep)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta_graph)
