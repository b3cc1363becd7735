"""From a scorer's graph to the program that the native executor runs.

A rule finds what of the graph one instruction computes (a sum of products with its activation, say) and names
the tensors that it is computed from. docs/scorer-program.md has the
steps that add an instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from nann.export.scorer._ir import Tensor
from nann.export.scorer._lower_matmul import PRODUCTS, matmul
from nann.export.scorer._lower_moves import is_move, move
from nann.export.scorer._lower_ops import is_known, operation
from nann.export.scorer._lower_products import similarity, sum_of_products
from nann.export.scorer._lowering import Lowering, NotLowerableError, ScorerIr, Step
from nann.export.scorer._program import ProgramWriter


def lower(ir: ScorerIr) -> ProgramWriter:
    """The program of a scorer: its user part too, or, where that is not known, after the user function.

    Raises NotLowerableError.
    """
    try:
        return Lowering(ir, _rule, after_user_function=False).run()
    except NotLowerableError:
        if ir.user == ir.state:
            raise
        return Lowering(ir.after_user_function(), _rule, after_user_function=True).run()


def lower_after(ir: ScorerIr, computed: Sequence[Tensor], *, has_user_function: bool) -> ProgramWriter:
    """The program of a scorer that takes the user function's results, and what TensorFlow computes of a tile.

    Raises NotLowerableError.
    """
    return Lowering(ir, _rule, after_user_function=has_user_function, computed=computed).run()


def may_be_lowered(tensor: Tensor) -> bool:
    """Whether an operation has a rule; where it stands and what it reads may refuse it all the same."""
    return tensor.op in ("dot", "source", *PRODUCTS) or is_move(tensor) or is_known(tensor)


def _rule(lowering: Lowering, tensor: Tensor) -> Step:
    return (
        similarity(lowering, tensor)
        or sum_of_products(lowering, tensor)
        or matmul(lowering, tensor)
        or move(lowering, tensor)
        or operation(lowering, tensor)
    )
