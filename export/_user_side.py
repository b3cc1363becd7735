"""`embed_user` as a function of the SavedModel whose big tables are read from mapped files."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from nann.errors import InvalidInputError
from nann.export._model_specs import plain_names
from nann.export._operations import check_operations
from nann.export._options import TABLE_BYTES
from nann.export._raw_rows import RawRows, raw_rows
from nann.export._user_rows import SHAPES, bring_shapes
from nann.export.constants import MAX_CONSTANT_BYTES, captured, check_constants
from nann.export.graph_defs import keep_inputs, node_name, with_calls_written_out
from nann.ops import load_library
from nann.run import RetrievalModel, guarded

_INDEX = "nann_index"
_TABLE_TYPES = (tf.float32, tf.float16, tf.bfloat16)
_CONTROL_FLOW = {"Case", "If", "While", "StatelessCase", "StatelessIf", "StatelessWhile"}
# Has TensorFlow turn a loop or branch into many small operations when it runs the graph.
_LOWER = "_lower_using_switch_merge"


@dataclass(frozen=True)
class UserSide:
    """The user side of a model, for the signature `retrieve_by_ids`.

    function:  ConcreteFunction: (features [B, ...] in the order of `user_features`..., handle of the index)
               -> state tensors [B, ...] in the order of `user_state`. It captures `resources`.
    tables:    name of each mapped table -> the variable or tensor [rows, width] that it holds.
    resources: variables, lookup tables and other resources, which the SavedModel must own so that any server
               restores and initialises them.
    raw_rows:  the tables that values of the features are rows of.
    """

    function: Any
    tables: dict[str, Any]
    resources: list[Any]
    raw_rows: RawRows


def rewrite_user_side(
    model: RetrievalModel, *, table_bytes: int = TABLE_BYTES, max_constant_bytes: int = MAX_CONSTANT_BYTES
) -> UserSide:
    """Trace `model.embed_user` and separate its big tables.

    All other variables and resources stay what they are. Raises InvalidInputError for a constant of more than
    `max_constant_bytes`, and for a resource that no SavedModel can hold.
    """
    load_library()  # The rewritten graph contains its ops.
    traced = _trace(model)
    check_operations(traced, what="embed_user")
    sources = list(captured(traced))
    graph_def = inlined(traced)
    rows = _raw_rows(model, traced, graph_def, sources)
    # Calls are written out: only an import tells how wide the rows are that are gathered in them.
    bring_shapes(graph_def, _reimport(traced, graph_def).graph.get_operations())
    rewriter = _GatherRewriter(graph_def)
    tables = _map_tables(traced, sources, rewriter, table_bytes)
    # Without a table the function is left as it was traced: loops, asserts and nested functions too.
    whole = traced.graph.as_graph_def()
    bring_shapes(whole, traced.graph.get_operations())
    function = _reimport(traced, rewriter.rewritten() if tables else whole)
    check_constants(function, what="embed_user", max_constant_bytes=max_constant_bytes)
    return UserSide(function, tables, resources_of(function, what="embed_user"), rows)


def _raw_rows(model: RetrievalModel, traced: Any, inlined: Any, sources: list[tuple[str, Any]]) -> RawRows:
    features = zip(model.user_features, traced.inputs, strict=False)  # captures follow the features
    captures = zip(traced.graph.captures, sources, strict=True)
    return raw_rows(
        inlined,
        {name: tensor.op.name for name, tensor in features},
        {placeholder.op.name: source for (_, placeholder), source in captures},
    )


def resources_of(function: Any, *, what: str) -> list[Any]:
    """The objects that a SavedModel must track so that what `function` captures is restored with it.

    Raises InvalidInputError, which begins with `what`, for a resource that no SavedModel can hold.
    """
    return [_owner(what, *capture) for capture in _resources_of(function)]


def _map_tables(
    traced: Any, sources: list[tuple[str, Any]], rewriter: _GatherRewriter, table_bytes: int
) -> dict[str, Any]:
    """Rewrite the reads of big tables; name of each table -> what it holds."""
    tables: dict[str, Any] = {}
    for (name, source), (_, placeholder) in zip(sources, traced.graph.captures, strict=True):
        if _bytes_of(source) >= table_bytes and _can_be_table(source):
            table = unused_name(name, tables)
            if rewriter.replace(placeholder.op.name, table):
                tables[table] = source
    return tables


def _resources_of(function: Any) -> list[tuple[str, Any]]:
    """What `function` captures, without plain tensors."""
    return [
        (name, source)
        for name, source in captured(function)
        if isinstance(source, tf.Variable) or source.dtype in (tf.resource, tf.variant)
    ]


def _owner(what: str, name: str, source: Any) -> Any:
    """The object that a SavedModel must track for a captured variable or resource to be restored with it."""
    if isinstance(source, tf.Variable):
        return source
    # TensorFlow's own note of which object made the handle: a table's or another resource's.
    parent = getattr(source, "_parent_trackable", lambda: None)()
    if parent is None:
        raise InvalidInputError(
            f"{what}: expected variables, lookup tables and other resources that a SavedModel can hold, "
            f"found that it reads {name} ({source.dtype.name}), whose owner is unknown. Keep the object that "
            f"made it as an attribute of the model, or replace it by a variable or a table of tf.lookup."
        )
    return parent


def _trace(model: RetrievalModel) -> Any:
    names = list(model.user_features)
    plain = plain_names(names)
    checked = guarded(model, check_results=True)
    specs = [
        tf.TensorSpec([None, *spec.shape.as_list()], spec.dtype, plain[name])
        for name, spec in model.user_features.items()
    ]

    def embed_user(*tensors: tf.Tensor) -> list[tf.Tensor]:
        state = checked.embed_user(dict(zip(names, tensors, strict=True)))
        return [
            tf.cast(tf.ensure_shape(state[name], [None, *spec.shape.as_list()]), spec.dtype)
            for name, spec in model.user_state.items()
        ]

    return tf.function(embed_user, input_signature=specs, autograph=False).get_concrete_function()


def inlined(function: Any) -> Any:
    """The function's GraphDef with calls of other functions replaced by their bodies, loops left whole."""
    graph_def = function.graph.as_graph_def()
    for called in graph_def.library.function:
        called.attr.pop("api_implements", None)  # else grappler keeps the call, to swap it by device
    # Grappler lowers a loop that is marked into frames, and frames cannot be imported into a function.
    _mark_control_flow(graph_def, lower=False)
    inlined = with_calls_written_out(graph_def, [*function.inputs, *function.outputs])
    _mark_control_flow(inlined, lower=True)
    bring_shapes(inlined, function.graph.get_operations())
    return inlined


def _mark_control_flow(graph_def: Any, *, lower: bool) -> None:
    for nodes in [graph_def.node, *(function.node_def for function in graph_def.library.function)]:
        for node in nodes:
            if node.op in _CONTROL_FLOW:
                node.attr[_LOWER].b = lower


class _GatherRewriter:
    """Replaces gathers from captured tables by reads of the index's user tables."""

    def __init__(self, graph_def: Any) -> None:
        self._graph_def = graph_def
        self._nodes = {node.name: node for node in graph_def.node}
        self._consumers: dict[str, list[tuple[Any, int]]] = {}
        for node in graph_def.node:
            for position, source in enumerate(node.input):
                self._consumers.setdefault(node_name(source), []).append((node, position))
        self._dropped: set[str] = set()
        self._new: list[Any] = []

    def replace(self, placeholder: str, table: str) -> bool:
        """Rewrite all reads of `placeholder`; returns False, without changes, when one gathers no rows."""
        found = self._gathers_from(placeholder) if placeholder in self._nodes else None
        if found is None:
            return False
        gathers, passed = found
        for node in gathers:
            self._rewrite(node, table)
        self._dropped |= passed
        return bool(gathers)

    def _gathers_from(self, placeholder: str) -> tuple[list[Any], set[str]] | None:
        """The gathers of its rows, and the nodes on the way there; None: something else reads it."""
        gathers: list[Any] = []
        passed: set[str] = {placeholder}
        pending = [placeholder]
        while pending:
            for node, position in self._consumers.get(pending.pop(), []):
                if node.input[position].startswith("^") or node.name in passed:
                    continue
                if node.op in ("Identity", "ReadVariableOp", "Cast"):
                    passed.add(node.name)
                    pending.append(node.name)
                elif position == 0 and self._gathers_rows(node):
                    gathers.append(node)
                else:
                    return None
        return gathers, passed

    def rewritten(self) -> Any:
        """The graph with what was rewritten, which reads the index's handle from outside."""
        gone = {f"^{name}" for name in self._dropped}
        for node in self._graph_def.node:
            keep_inputs(node, lambda source: source not in gone)
        self._graph_def.node.extend(self._new)
        return self._graph_def

    def _gathers_rows(self, node: Any) -> bool:
        # Reading an attribute that a node does not have adds it: check the op first.
        if node.op not in ("GatherV2", "ResourceGather") or node.attr["batch_dims"].i != 0:
            return False
        if node.op == "ResourceGather":
            return True
        axis = self._nodes[node_name(node.input[2])]
        while axis.op == "Identity":
            axis = self._nodes[node_name(axis.input[0])]
        return axis.op == "Const" and int(tf.make_ndarray(axis.attr["value"].tensor)) == 0

    def _rewrite(self, node: Any, table: str) -> None:
        """Turn the gather into a cast of the table's rows, under its own name for its consumers."""
        resource = node.op == "ResourceGather"
        dtype = node.attr["dtype" if resource else "Tparams"].type
        rows = node_def_pb2.NodeDef(name=f"{node.name}/mapped_rows", op="Nann>GatherTableRows")
        rows.input.extend([_INDEX, node.input[1]])
        rows.attr["table"].s = table.encode()
        rows.attr["Trow"].type = node.attr["Tindices"].type
        self._new.append(rows)
        name, shapes = node.name, node_def_pb2.NodeDef(attr={SHAPES: node.attr[SHAPES]})
        node.Clear()
        node.MergeFrom(shapes)  # A table's file does not tell how wide its rows are.
        node.name, node.op = name, "Cast"
        node.input.append(rows.name)
        node.attr["SrcT"].type = tf.float32.as_datatype_enum
        node.attr["DstT"].type = dtype


def _reimport(traced: Any, graph_def: Any) -> Any:
    """The rewritten graph as a ConcreteFunction of the features and the index's handle."""
    features = own_inputs(traced)
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.op.name) for tensor in features]
    specs.append(tf.TensorSpec([], tf.resource, _INDEX))

    def embed_user(*tensors: Any) -> list[tf.Tensor]:
        given = dict(zip([*_names(features), f"{_INDEX}:0"], tensors, strict=True))
        outputs = imported(traced, graph_def, given, _names(traced.outputs))
        for output, before in zip(outputs, traced.outputs, strict=True):
            output.set_shape(before.shape)
        return outputs

    return tf.function(embed_user, input_signature=specs, autograph=False).get_concrete_function()


def own_inputs(function: Any) -> list[Any]:
    """What a function is called with, without what it captures."""
    return list(function.inputs[: len(function.inputs) - len(function.graph.captures)])


def imported(
    function: Any,
    graph_def: Any,
    given: Mapping[str, tf.Tensor],
    names: Sequence[str],
    checks: Sequence[str] = (),
) -> list[tf.Tensor]:
    """The tensors of these names in the graph that is traced now.

    They are computed from `given`, by name, and from what `function` captures, after the operations `checks`.
    graph_def: the graph of `function`, which may have been rewritten.
    """
    needed = _needed(graph_def, given, [*checks, *names])
    read = {_tensor_name(each) for node in needed.node for each in node.input}
    outside = {**_captures_in(function, {*read, *names}), **given}
    computed = [name for name in names if name not in outside]
    found = tf.graph_util.import_graph_def(
        needed,
        input_map={name: tensor for name, tensor in outside.items() if name in read},
        return_elements=[*checks, *computed],
        name="",
    )
    results = {**outside, **dict(zip(computed, found[len(checks) :], strict=True))}
    if not checks:
        return [results[name] for name in names]
    with tf.control_dependencies(found[: len(checks)]):
        return [tf.identity(results[name]) for name in names]


def _needed(graph_def: Any, given: Iterable[str], names: Iterable[str]) -> Any:
    """The nodes that compute `names`, without placeholders, and what is needed only for what is `given`."""
    nodes = {node.name: node for node in graph_def.node if node.op != "Placeholder"}
    given = frozenset(given)
    needed = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    pending, seen = [name for name in names if name not in given], set[str]()
    while pending:
        name = node_name(pending.pop())
        if name in nodes and name not in seen:
            seen.add(name)
            node = needed.node.add()
            node.CopyFrom(nodes[name])
            node.attr.pop("_class", None)  # Colocation with what may not be there.
            pending += [each for each in node.input if _tensor_name(each) not in given]
    return needed


def _captures_in(function: Any, names: Container[str]) -> dict[str, tf.Tensor]:
    """Capture what `function` captures in the graph that is traced now: name inside it -> the tensor here.

    Only those whose name inside is one of `names`: every capture is saved.
    """
    graph = tf.compat.v1.get_default_graph()
    found = {}
    for (_, source), (_, inside) in zip(captured(function), function.graph.captures, strict=True):
        if inside.name not in names:
            continue
        if isinstance(source, tf.Variable):
            # Otherwise the graph does not know that the handle is that of a variable.
            graph.watch_variable(source)
            found[inside.name] = graph.capture(source.handle)
        else:
            found[inside.name] = graph.capture(source)
    return found


def _tensor_name(source: str) -> str:
    """The name of the tensor that an input of a node is: `a` and `a:0` are one."""
    return source if ":" in source else f"{source}:0"


def _names(tensors: list[Any]) -> list[str]:
    return [tensor.name for tensor in tensors]


def _bytes_of(source: Any) -> int:
    count = source.shape.num_elements()
    return (
        0
        if count is None or source.dtype in (tf.resource, tf.variant)
        else count * source.dtype.base_dtype.size
    )


def _can_be_table(source: Any) -> bool:
    return source.shape.rank == 2 and source.dtype.base_dtype in _TABLE_TYPES


def unused_name(name: str, taken: Mapping[str, Any]) -> str:
    """A file name's worth of the variable's name, made unique."""
    plain = re.sub(r"[^A-Za-z0-9]", "_", name.split(":")[0]).strip("_") or "table"
    unused, number = plain, 1
    while unused in taken:
        number += 1
        unused = f"{plain}_{number}"
    return unused


def table_chunks(source: Any, rows: int) -> Iterator[Any]:
    """The rows of a table as float32 or float16 arrays [<= rows, width], never all of it at once."""
    for start in range(0, source.shape[0], rows):
        # A slice would read the whole variable first, and copy it if it had sparse updates.
        part = tf.gather(source, tf.range(start, min(start + rows, source.shape[0])))
        yield (tf.cast(part, tf.float32) if part.dtype == tf.bfloat16 else part).numpy()
