"""Lists of tensors, which loops that were written out read and fill: their elements in our form."""

from __future__ import annotations

import numpy as np

from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._ops import concat, reshape, slice_

# What sets elements of the list that is their first operand, and which operand says where.
_PLACES = {"TensorListScatterIntoExistingList": 2, "TensorListSetItem": 1}
# What changes that list.
_CHANGES = frozenset(["TensorListPushBack", *_PLACES])


def element_of(r: Reading) -> Found:
    """TensorListGetItem with a constant index."""
    index = r.inputs[1].value
    return None if index is None else _element(r.inputs[0], int(index))


def stacked(r: Reading) -> Found:
    """TensorListStack of a list whose elements are known; the trace may have left their number open."""
    return _stack(r.inputs[0], range(_length(r.inputs[0]) or 0))


def gathered(r: Reading) -> Found:
    """TensorListGather at constant indices."""
    indices = r.inputs[1].value
    return None if indices is None else _stack(r.inputs[0], indices.tolist())


def joined(r: Reading) -> Found:
    """TensorListConcatV2: the elements one behind the other, and how many rows each has."""
    parts = _elements(r.inputs[0], range(_length(r.inputs[0]) or 0))
    if len({each.shape[1:] for each in parts}) != 1:
        return None
    return [concat(parts, 0), constant(np.array([each.shape[0] for each in parts], np.int64))]


def length_of(r: Reading) -> Found:
    """TensorListLength."""
    length = _length(r.inputs[0])
    return None if length is None else constant(np.int32(length))


def _stack(elements: Tensor, indices: range | list[int]) -> Tensor | None:
    whole = _whole(elements)
    if whole is not None and list(indices) == list(range(whole.shape[0])):
        return whole
    parts = _elements(elements, indices)
    if len({each.shape for each in parts}) != 1:  # Of none, or of several that TensorFlow does not stack.
        return None
    return concat([reshape(each, (1, *each.shape)) for each in parts], 0)


def _whole(elements: Tensor) -> Tensor | None:
    """All elements as one tensor, where the list was made of it or filled with it at once."""
    if elements.op == "TensorListFromTensor":
        return elements.inputs[0]
    if elements.op != "TensorListScatterIntoExistingList":
        return None
    _, values, places = elements.inputs
    count = _length(elements)
    return values if places.value is not None and places.value.tolist() == list(range(count or 0)) else None


def _elements(elements: Tensor, indices: range | list[int]) -> list[Tensor]:
    """None at all where one is not known."""
    parts = [_element(elements, index) for index in indices]
    known = [each for each in parts if each is not None]
    return known if len(known) == len(parts) else []


def _length(elements: Tensor) -> int | None:
    """How many elements a list has; one that is set beyond its end lengthens it."""
    pushed, least = 0, 0
    while elements.op in _CHANGES:
        if elements.op == "TensorListPushBack":
            pushed += 1
        elif (at := elements.inputs[_PLACES[elements.op]].value) is not None:
            least = max(least, int(np.max(at, initial=-1)) + 1)
        elements = elements.inputs[0]
    made = _length_as_made(elements)
    return None if made is None else max(made + pushed, least)


def _length_as_made(elements: Tensor) -> int | None:
    if elements.op == "EmptyTensorList":
        return 0
    if elements.op == "TensorListFromTensor":
        return elements.inputs[0].shape[0]
    if elements.op == "TensorListSplit":
        return elements.inputs[2].shape[0]
    count = elements.inputs[1].value if elements.op == "TensorListReserve" else None
    return None if count is None else int(count)


def _element(elements: Tensor, index: int) -> Tensor | None:
    """The value that was written last at an index; None where that is not known."""
    length = _length(elements) or 0
    while elements.op in _CHANGES:
        before, *changed = elements.inputs
        if elements.op == "TensorListPushBack":
            length -= 1
            if index == length:
                return changed[0]
        else:
            is_one = elements.op == "TensorListSetItem"
            values, places = reversed(changed) if is_one else changed
            if places.value is None:
                return None
            if (found := np.flatnonzero(places.value == index)).size:
                return values if is_one else _row(values, int(found[-1]))
        elements = before
    return _element_as_made(elements, index)


def _element_as_made(elements: Tensor, index: int) -> Tensor | None:
    if elements.op == "TensorListFromTensor":
        return _row(elements.inputs[0], index)
    lengths = elements.inputs[2].value if elements.op == "TensorListSplit" else None
    if lengths is None:
        return None
    return _rows(elements.inputs[0], int(lengths[:index].sum()), int(lengths[index]))


def _row(whole: Tensor, index: int) -> Tensor:
    return reshape(_rows(whole, index, 1), whole.shape[1:])


def _rows(whole: Tensor, begin: int, count: int) -> Tensor:
    return slice_(whole, [begin, *[0] * (whole.rank - 1)], (count, *whole.shape[1:]))


LISTS = {
    "TensorListConcatV2": joined,
    "TensorListGather": gathered,
    "TensorListGetItem": element_of,
    "TensorListLength": length_of,
    "TensorListStack": stacked,
}
