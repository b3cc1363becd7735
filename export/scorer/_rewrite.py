"""Applying rules to a graph until none changes it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

from nann.export.scorer import _ops
from nann.export.scorer._ir import Tensor, Uses, count_uses, name_new, same_op, topological
from nann.export.scorer._narrow import narrowed_outputs

# A tensor, and how often each tensor is read -> the same values, computed in another way; None to leave it.
Rule = Callable[[Tensor, Uses], Tensor | None]

# Every rule brings a graph nearer to a normal form, some 20 sweeps away. Should two ever undo each other,
# this ends it: the graph is right after every sweep.
_MAX_SWEEPS = 200


def rewrite(output: Tensor, rules: Sequence[Rule], *, free_rules: Sequence[Rule] = ()) -> Tensor:
    """Apply `rules` to all that depends on the item, `free_rules` to the rest, until nothing changes."""
    for _ in range(_MAX_SWEEPS):
        changed = _sweep(output, rules, free_rules)
        if changed == output:
            return output
        output = changed
    warnings.warn(f"the rewrites of {output} do not settle", RuntimeWarning, stacklevel=2)
    return output


def apply_once(output: Tensor, rule: Rule) -> Tensor:
    """The graph with a rule applied wherever it can be, once."""
    return _sweep(output, (rule,), ())


def substitute(output: Tensor, replaced: Mapping[Tensor, Tensor]) -> Tensor:
    """The graph with some tensors replaced by others."""
    tensors = dict(replaced)
    for node in topological([output], stop=replaced.__contains__):
        _rebuild(Tensor(node), tensors, len(node.outputs))
    return tensors[output]


def _sweep(output: Tensor, rules: Sequence[Rule], free_rules: Sequence[Rule]) -> Tensor:
    """Each node once, inputs first. `uses` counts the graph as it was: rules are right whatever it says."""
    uses = count_uses([output])
    tensors: dict[Tensor, Tensor] = {}
    for node in topological([output]):
        tensor = Tensor(node)
        _rebuild(tensor, tensors, len(node.outputs))
        if node.op == "source":
            continue
        found = tensors[tensor]
        if len(node.outputs) > 1:
            _narrow_outputs(tensor, tensors)
            continue
        uses[found] = max(uses[found], uses[tensor])
        if any(each.known_shape is None for each in (found, *found.inputs)):
            continue
        for rule in free_rules if found.is_free else rules:
            better = rule(found, uses)
            if better is not None and better != found:
                assert (better.shape, better.dtype) == (found.shape, found.dtype), (rule, found, better)
                tensors[tensor] = name_new(better, node.name)
                uses[better] = max(uses[better], uses[tensor])
                break
    return tensors[output]


def _narrow_outputs(tensor: Tensor, tensors: dict[Tensor, Tensor]) -> None:
    """Operations of several outputs are TensorFlow's: there is one rule for them."""
    outputs = narrowed_outputs(tensors[tensor].node)
    for index, output in enumerate(outputs or ()):
        tensors[Tensor(tensor.node, index)] = name_new(output, tensor.node.name)


def _rebuild(tensor: Tensor, tensors: dict[Tensor, Tensor], outputs: int) -> None:
    """Put what `tensor`'s node has become, with its inputs replaced, into `tensors`."""
    inputs = [tensors[each] for each in tensor.inputs]
    if tuple(inputs) == tensor.inputs:
        for index in range(outputs):
            same = Tensor(tensor.node, index)
            tensors.setdefault(same, same)
        return
    ours = _ops.rebuilt(tensor, inputs)
    if ours is not None:
        tensors.setdefault(tensor, name_new(ours, tensor.node.name))
        return
    node = same_op(tensor.node, inputs)
    for index in range(outputs):
        tensors.setdefault(Tensor(tensor.node, index), Tensor(node, index))
