"""Lists of tensors, which loops that were written out read and fill: their elements in our form."""

from __future__ import annotations

from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Tensor
from nann.export.scorer._ops import concat, reshape, slice_


def element_of(r: Reading) -> Found:
    """TensorListGetItem with a constant index."""
    index = r.inputs[1].value
    return None if index is None else _element(r.inputs[0], int(index))


def stacked(r: Reading) -> Found:
    """TensorListStack of a list whose elements are known; the trace may have left their number open."""
    parts = [_element(r.inputs[0], index) for index in range(_length(r.inputs[0]))]
    known = [each for each in parts if each is not None]
    if len(known) < len(parts) or not parts:
        return None
    return concat([reshape(each, (1, *each.shape)) for each in known], 0)


def _length(elements: Tensor) -> int:
    """How many elements a list has; 0 where that is not known."""
    while elements.op == "TensorListSetItem":
        elements = elements.inputs[0]
    if elements.op == "TensorListFromTensor":
        return elements.inputs[0].shape[0]
    count = elements.inputs[1].value if elements.op == "TensorListReserve" else None
    return 0 if count is None else int(count)


def _element(elements: Tensor, index: int) -> Tensor | None:
    while elements.op == "TensorListSetItem":
        at = elements.inputs[1].value
        if at is None:
            return None
        if int(at) == index:
            return elements.inputs[2]
        elements = elements.inputs[0]
    if elements.op != "TensorListFromTensor":
        return None
    whole = elements.inputs[0]
    begin = [index, *[0] * (whole.rank - 1)]
    return reshape(slice_(whole, begin, (1, *whole.shape[1:])), whole.shape[1:])


LISTS = {"TensorListGetItem": element_of, "TensorListStack": stacked}
