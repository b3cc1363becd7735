"""What several rewrites of a GraphDef need."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer

# A call without another name; its inputs and outputs are written out as "Func/PartitionedCall/input/_0".
_OF_CALLS = re.compile(r"\b(?:Stateful)?PartitionedCall(_\d+)?/")


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
    names = [tensor.name for tensor in ends]
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=graph_def)
    keep = meta_graph_pb2.CollectionDef()
    keep.node_list.value.extend(names)
    meta_graph.collection_def["train_op"].CopyFrom(keep)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    written_out = with_own_names(tf_optimizer.OptimizeGraph(config, meta_graph))
    return without_names_of_calls(written_out, map(node_name, names))


def without_names_of_calls(graph_def: Any, keep: Iterable[str]) -> Any:
    """The same graph, where no node has a name that TensorFlow gives to nodes of a call that it writes out.

    They begin with the call's name and are numbered from 0 on. So TensorFlow refuses to run a graph that has
    such names of an earlier call, if another call is called so.

    keep: nodes that keep their names.
    """
    names, kept = {node.name for node in graph_def.node}, set(keep)
    renamed = dict[str, str]()
    for node in graph_def.node:
        plain = _OF_CALLS.sub(r"call\1/", re.sub("^Func/", "call/", node.name))
        if plain != node.name and node.name not in kept:
            numbered = (f"{plain}_{at}" for at in itertools.count())
            fresh = next(each for each in itertools.chain([plain], numbered) if each not in names)
            names.add(fresh)
            renamed[node.name] = node.name = fresh
    for node in graph_def.node if renamed else ():
        for at, source in enumerate(node.input):
            name = node_name(source)
            if name in renamed:
                node.input[at] = source.replace(name, renamed[name], 1)
        node.attr.pop("_class", None)  # Colocation with what had another name.
    return graph_def


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
