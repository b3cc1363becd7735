"""Rules for sums, products with free factors, and matrix products: what is linear in the item goes together.

Free tensors (of constants and the user only) are computed once per request, so they collect: summands move
outwards until they meet, factors move into the matrices, and parts of a concatenation get their own part of
the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nann.export.scorer._contract import (
    MAX_UNROLLED,
    row_of_turned,
    sum_of_product,
    weighted_columns,
    weighted_rows,
)
from nann.export.scorer._infinities import adds_large, is_large, is_of_sum_with_large
from nann.export.scorer._ir import Needs, Tensor, Uses, constant, name_new
from nann.export.scorer._ops import (
    MOVED,
    add,
    columns,
    concat,
    dot,
    is_extreme,
    is_negation,
    is_row,
    mul,
    negated,
    reduce_,
    reshape,
    scaled,
    select,
    slice_,
    squared_difference,
    unary,
    widened,
)
from nann.export.scorer._rewrite import Rule


def flat_sum(x: Tensor, uses: Uses) -> Tensor | None:
    """Nested sums become one, ordered by what is needed: user and item, item only, free; a group each.

    But not one that a number is taken out of beside it, as in z - max(z): the largest is 0 then. Nor one with
    a large number, such as a mask's: others are rounded to its steps in the order in which they are added.
    """
    if x.op != "add" or adds_large(x):
        return None
    terms: list[Tensor] = []
    for term in x.inputs:
        is_shared = term.op == "add" and uses[term] > 1
        is_taken = is_shared and any(_is_taken_from(each, term) for each in x.inputs if each != term)
        terms += [term] if is_taken or adds_large(term) else _opened(term, x)
    cross, item, free = _grouped(terms)
    cross, item = merged_products(cross), merged_products(item)
    return add(*cross, *(item if x.is_item_only else _joined(add, item)), *_joined(add, free))


def flat_product(x: Tensor, uses: Uses) -> Tensor | None:
    """Nested products become one, ordered as sums are: but not those of sums with large numbers."""
    if x.op != "mul" or any(is_of_sum_with_large(factor) for factor in x.inputs):
        return None
    factors: list[Tensor] = []
    for factor in x.inputs:
        factors += _opened(factor, x) if uses[factor] == 1 else [factor]
    cross, item, free = _grouped(factors)
    return mul(*cross, *(item if x.is_item_only else _joined(mul, item)), *_joined(mul, free))


def summand_through_dot(x: Tensor, _: Uses) -> Tensor | None:
    """dot(a + free, W) -> dot(a, W) + free . W: but not dot(1 - mask, -1e9 W), as in `factor_into_sum`."""
    if x.op != "dot" or x.inputs[0].op != "add":
        return None
    total, matrix = x.inputs
    if adds_large(total) or is_large(matrix):
        return None
    free, rest = _parted(total)
    if not free or not rest or (left := add(*rest)).shape[-1] != total.shape[-1]:
        return None
    return add(dot(left, matrix), dot(widened(add(*free), total.shape[-1]), matrix))


def factor_into_dot(x: Tensor, _: Uses) -> Tensor | None:
    """dot(a * free row, W) -> dot(a, W with scaled rows)."""
    if x.op != "dot" or x.inputs[0].op != "mul":
        return None
    product, matrix = x.inputs
    free, rest = _parted(product)
    if not free or not rest or (left := mul(*rest)).shape != product.shape:
        return None
    factor = mul(*free)
    return dot(left, mul(matrix, reshape(factor, (factor.size, 1)))) if is_row(factor) else None


def factor_from_dot(x: Tensor, uses: Uses) -> Tensor | None:
    """dot(a, W) * free row -> dot(a, W with scaled columns), where nothing else reads the product."""
    if x.op != "mul":
        return None
    free, rest = _parted(x)
    if not free or not is_row(factor := mul(*free)):
        return None
    for at, each in enumerate(rest):
        if each.op == "dot" and uses[each] == 1 and each.shape == x.shape:
            rest[at] = _scaled_columns(each, factor)
            return mul(*rest)
    return None


def factor_into_sum(x: Tensor, uses: Uses) -> Tensor | None:
    """(a + b) * free row -> a * row + b * row, where at most one of the summands is left with a factor.

    But not (1 - mask) * -1e9: nothing is left of a small number that is added to 1e9 * mask before -1e9 is.
    """
    if x.op != "mul" or len(x.inputs) != 2 or x.inputs[0].op != "add" or not x.inputs[1].is_free:
        return None
    total, factor = x.inputs
    if uses[total] > 1 or not is_row(factor) or is_large(factor) or adds_large(total):
        return None
    left = [term for term in total.inputs if not _absorbs(term, factor, uses)]
    scaled_terms = (name_new(mul(term, factor), term.node.name) for term in total.inputs)
    return add(*scaled_terms) if len(left) <= 1 else None


def dot_of_concat(x: Tensor, _: Uses) -> Tensor | None:
    """dot([a, b], W) -> dot(a, W1) + dot(b, W2) for parts that gain by it; the others stay together."""
    if x.op != "dot" or x.inputs[0].op != "concat":
        return None
    joined, matrix = x.inputs
    if joined.node.attrs["axis"] != joined.rank - 1:
        return None
    terms: list[Tensor] = []
    together: list[tuple[Tensor, Tensor]] = []
    start = 0
    for part in joined.inputs:
        end = start + part.shape[-1]
        rows = slice_(matrix, [start, 0], [end - start, matrix.shape[1]])
        start = end
        if part.needs != joined.needs or part.op in ("add", "broadcast", "concat", "dot", "mul"):
            terms.append(dot(part, rows))
        else:
            together.append((part, rows))
    if not terms:
        return None
    if together:
        parts, rows_of_parts = zip(*together, strict=True)
        terms.append(dot(concat(parts, -1), concat(rows_of_parts, 0)))
    return add(*terms)


def select_into_dot(x: Tensor, uses: Uses) -> Tensor | None:
    """where(row, dot(a, W) + b, c), all but `a` free -> dot(a, where(row, W, 0)) + where(row, b, c).

    So does a mask of events become a part of their keys.
    """
    if x.op != "SelectV2" or not x.inputs[0].is_free or not is_row(x.inputs[0]):
        return None
    row, first, second = x.inputs
    kept, other = (second, first) if first.is_free else (first, second)
    terms = kept.inputs if kept.op == "add" else (kept,)
    products = [each for each in terms if not each.is_free]
    if not other.is_free or uses[kept] > 1 or any(each.shape != x.shape for each in products):
        return None
    if any(each.op != "dot" or uses[each] > 1 for each in products):
        return None
    zero = constant(0, x.dtype.as_numpy_dtype)

    def masked(product: Tensor) -> Tensor:
        left, matrix = product.inputs
        columns_kept = reshape(row, (1, row.size))
        return dot(left, select(columns_kept, *((zero, matrix) if first.is_free else (matrix, zero))))

    rest = add(zero, *(each for each in terms if each.is_free))
    free = select(row, *((other, rest) if first.is_free else (rest, other)))
    return add(*(masked(each) for each in products), free)


def sum_of_dot(x: Tensor, uses: Uses) -> Tensor | None:
    """sum(dot(a, W), last axis) -> dot(a, sums of W's rows), where nothing else reads the product."""
    if not _is_sum_over_last_axis(x) or x.inputs[0].op != "dot" or uses[x.inputs[0]] > 1:
        return None
    left, matrix = x.inputs[0].inputs
    column = reshape(reduce_(matrix, "Sum", [1]), (matrix.shape[0], 1))
    return _mean(x, reshape(dot(left, column), x.shape))


def sum_of_concat(x: Tensor, _: Uses) -> Tensor | None:
    """sum([a, b], along the axis where they meet) -> sum(a) + sum(b)."""
    if x.op != "reduce" or x.inputs[0].op != "concat" or x.node.attrs["function"] not in ("Sum", "Mean"):
        return None
    joined, axes = x.inputs[0], x.node.attrs["axes"]
    if joined.node.attrs["axis"] not in axes or len(joined.inputs) > MAX_UNROLLED:
        return None
    total = add(*(reduce_(part, "Sum", axes) for part in joined.inputs))
    return total if x.node.attrs["function"] == "Sum" else scaled(total, x.size / joined.size)


def constant_to_item(x: Tensor, uses: Uses) -> Tensor | None:
    """(a + item) + constant -> a + (item + constant): the table then holds the sum. Products alike."""
    if x.op not in ("add", "mul") or x.is_item_only or x.inputs[-1].value is None:
        return None
    if x.op == "add" and (adds_large(x) or is_large(x.inputs[-1])):
        return None
    for at, term in enumerate(x.inputs[:-1]):
        if term.is_item_only and term.shape == x.shape and uses[term] == 1:
            join = add if x.op == "add" else mul
            joined = name_new(join(term, x.inputs[-1]), term.node.name)
            return join(*x.inputs[:at], joined, *x.inputs[at + 1 : -1])
    return None


def square_of_product(x: Tensor, _: Uses) -> Tensor | None:
    """a * a -> square(a)."""
    is_square = x.op == "mul" and len(x.inputs) == 2 and x.inputs[0] == x.inputs[1]
    return unary("Square", x.inputs[0]) if is_square else None


def square_of_difference(x: Tensor, uses: Uses) -> Tensor | None:
    """square(a + free) -> squared difference of a and -free: distances have one form."""
    if x.op != "Square" or x.inputs[0].op != "add" or uses[x.inputs[0]] > 1:
        return None
    free, rest = _parted(x.inputs[0])
    if not free or not rest:
        return None
    if len(rest) == 1 and is_negation(rest[0]):
        return squared_difference(negated(rest[0]), add(*free))
    return squared_difference(add(*rest), negated(add(*free)))


def _opened(term: Tensor, x: Tensor) -> list[Tensor]:
    """The operands of a nested sum or product that needs as much as `x` does."""
    same = term.op == x.op and term.needs == x.needs and term.shape == x.shape
    return list(term.inputs) if same else [term]


# The numbers of a result are those of the operands.
_OF_OPERANDS = frozenset(["Maximum", "Minimum", *MOVED])
# Of a sort of 64 numbers, which compares each with each.
_MOST_STEPS = 512


def _is_taken_from(x: Tensor, source: Tensor) -> bool:
    """Whether each number of `x`, or minus it, is one of `source`'s, or one beside which it stands."""
    seen, pending = set[Tensor](), [x]
    while pending and len(seen) < _MOST_STEPS:
        each = pending.pop()
        if each == source:
            return True
        if each in seen:
            continue
        seen.add(each)
        if each.op == "SelectV2":
            pending += each.inputs[1:]
        elif each.op in _OF_OPERANDS or is_extreme(each) or is_negation(each):
            pending += each.inputs
    return False


def _grouped(terms: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    cross = [term for term in terms if term.needs & Needs.ITEM and term.needs & Needs.USER]
    item = [term for term in terms if term.is_item_only]
    return cross, item, [term for term in terms if term.is_free]


def _joined(join: Callable[..., Tensor], terms: Sequence[Tensor]) -> list[Tensor]:
    """The terms as one."""
    return [join(*terms)] if terms else []


def merged_products(terms: Iterable[Tensor]) -> list[Tensor]:
    """dot(a, V) + dot(a, W) -> dot(a, V + W)."""
    merged: dict[object, Tensor] = {}
    for term in terms:
        key: object = ("dot", term.inputs[0]) if term.op == "dot" else (term, len(merged))
        if key in merged:
            term = dot(term.inputs[0], add(merged[key].inputs[1], term.inputs[1]))
        merged[key] = term
    return list(merged.values())


def _parted(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The operands that are free, and the others."""
    return [each for each in x.inputs if each.is_free], [each for each in x.inputs if not each.is_free]


def _scaled_columns(product: Tensor, factor: Tensor) -> Tensor:
    left, matrix = product.inputs
    return name_new(dot(left, mul(matrix, reshape(factor, (1, factor.size)))), product.node.name)


def _absorbs(term: Tensor, factor: Tensor, uses: Uses) -> bool:
    """Whether a free factor costs nothing at this summand."""
    if term.is_free or (term.is_item_only and factor.value is not None):
        return True
    if term.op == "mul":
        return any(each.is_free for each in term.inputs)
    return term.op == "dot" and uses[term] == 1


def _is_sum_over_last_axis(x: Tensor) -> bool:
    attrs = x.node.attrs
    return (
        x.op == "reduce" and attrs["function"] in ("Sum", "Mean") and attrs["axes"] == (x.inputs[0].rank - 1,)
    )


def _mean(x: Tensor, total: Tensor) -> Tensor:
    return total if x.node.attrs["function"] == "Sum" else scaled(total, 1 / x.inputs[0].shape[-1])


ALGEBRA: tuple[Rule, ...] = (
    flat_sum,
    flat_product,
    summand_through_dot,
    factor_into_dot,
    factor_from_dot,
    factor_into_sum,
    dot_of_concat,
    sum_of_product,
    weighted_rows,
    weighted_columns,
    row_of_turned,
    sum_of_dot,
    sum_of_concat,
    select_into_dot,
    square_of_product,
)
FINISH: tuple[Rule, ...] = (constant_to_item, square_of_difference)


def reassociated(x: Tensor) -> Tensor | None:
    """dot(dot(a, V), W) -> dot(a, V . W)."""
    if x.op != "dot" or x.inputs[0].op != "dot":
        return None
    (left, first), second = x.inputs[0].inputs, x.inputs[1]
    return dot(left, dot(first, second))


def distributed(x: Tensor) -> Tensor | None:
    """dot(a + b, W) -> dot(a, W) + dot(b, W), re-associated where that is less work."""
    if x.op != "dot" or x.inputs[0].op != "add":
        return None
    total, matrix = x.inputs
    if adds_large(total) or is_large(matrix):
        return None
    if any(each.rank == 0 or each.shape[-1] != total.shape[-1] for each in total.inputs):
        return None
    if all(
        each.op != "dot" and (each.needs, each.shape) == (total.needs, total.shape) for each in total.inputs
    ):
        return None  # as many products as summands, and none of them smaller
    return add(*(_cheaper_product(term, matrix) for term in total.inputs))


def sliced_columns(x: Tensor) -> Tensor | None:
    """Columns of dot(a, W) -> dot(a, these columns of W)."""
    if x.op != "slice" or x.inputs[0].op != "dot" or x.shape[:-1] != x.inputs[0].shape[:-1]:
        return None
    left, matrix = x.inputs[0].inputs
    begin = x.node.attrs["begin"][-1]
    return dot(left, columns(matrix, begin, begin + x.shape[-1]))


def _cheaper_product(term: Tensor, matrix: Tensor) -> Tensor:
    product = dot(term, matrix)
    narrower = term.op == "dot" and term.inputs[0].shape[-1] < term.shape[-1]
    return (reassociated(product) or product) if narrower else product


MOVES = (reassociated, distributed, sliced_columns)
