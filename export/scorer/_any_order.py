"""`tf.math.top_k(..., sorted=False)`: what is found is sorted where no result shows in which order it came.

TensorFlow's own order is that of its algorithm, which no other program has. Most models sum over what they
find, as attention to the nearest events does.
"""

from __future__ import annotations

from typing import Any

from nann.export.replaced import function_of
from nann.export.scorer._anyhow import has_same_results


def sorted_in_any_order(function: Any) -> Any:
    """The function with all that it finds in order; `function` itself where its results would differ."""
    graph_def = function.graph.as_graph_def()
    bodies = [graph_def.node, *(each.node_def for each in graph_def.library.function)]
    unordered = [
        node for nodes in bodies for node in nodes if node.op == "TopKV2" and not node.attr["sorted"].b
    ]
    if not unordered:
        return function
    for node in unordered:
        node.attr["sorted"].b = True
    found = function_of(graph_def, function.inputs, function.outputs)
    return found if has_same_results(function, found, if_untried=False) else function
