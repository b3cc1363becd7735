"""A scorer of what its user is encoded from: one program, beside what TensorFlow computes of integers.

Alone, a scorer leaves to TensorFlow what its user part needs and the native executor does not know: rows at
a user's ids, an hour as a float. An encoder in the same program must not fall with it. What TensorFlow
computes then of the integers that a user brings, the program takes as one more of the user's tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from nann.export.constants import freeze
from nann.export.scorer._emit import to_function
from nann.export.scorer._ir import Needs, NotSplittableError, Spec, Tensor, source, topological
from nann.export.scorer._lower import lower, lower_after
from nann.export.scorer._lowering import PROGRAM_TYPES, NotLowerableError, ScorerIr
from nann.export.scorer._ops import cast
from nann.export.scorer._partly import readers_of
from nann.export.scorer._program import ProgramWriter
from nann.export.scorer._read import read_encoder
from nann.export.scorer._rewrite import substitute
from nann.export.scorer._search import clean_encoder

# Each is another attempt to write the program.
_MOST_BESIDE = 16


@dataclass(frozen=True)
class Encoded:
    """A scorer from what its user is encoded from.

    user_function: (tensors of one user...) -> what `program` takes; of TensorFlow.
    """

    ir: ScorerIr
    program: ProgramWriter
    user_function: Any


def lower_encoded(
    ir: ScorerIr, user_function: Any | None, encoder: Any, *, may_take_apart: bool = False
) -> Encoded:
    """The program of the scorer `ir` after `encoder`.

    user_function: of the scorer (`Scorer.user_function`).
    encoder:       ConcreteFunction without captures: (tensors of one user...) -> the user's state.
    may_take_apart: whether TensorFlow may compute parts of the encoder too, for each user on its own.

    Raises NotSplittableError, NotLowerableError: the native executor cannot run the encoder.
    """
    names = [f"user_{number}" for number in range(len(encoder.inputs))]
    specs = [
        tf.TensorSpec(each.shape, each.dtype, name) for each, name in zip(encoder.inputs, names, strict=True)
    ]

    def users_part(*tensors: tf.Tensor) -> list[tf.Tensor]:
        state = _written_out(encoder, tensors)
        return state if user_function is None else _written_out(user_function, state)

    composed = tf.function(users_part, input_signature=specs, autograph=False).get_concrete_function()
    whole, encoded = _after(encoder, ir)
    try:
        return Encoded(whole, lower(whole), composed)
    except NotLowerableError as error:
        if error.tensor.node in topological(encoded) and not may_take_apart:
            raise
        first = error
    try:
        return _beside_tensorflow(whole, encoder)
    except NotLowerableError:
        if user_function is None:
            raise first from None
    # As of an encoder more forms are known than as of a scorer's user part.
    frozen = freeze(composed, what="embed_user")
    for integers_are_places in (False, True):
        try:
            whole, _ = _after(frozen, ir.after_user_function(), integers_are_places=integers_are_places)
            return _beside_tensorflow(whole, frozen)
        except NotLowerableError:
            continue
    raise first


def lower_with_user_part(ir: ScorerIr, user_function: Any) -> ProgramWriter | None:
    """The program of a scorer whose user part is read as an encoder, of which more forms are known.

    user_function: of the scorer (`Scorer.user_function`).

    None where the native executor does not know the user part in these forms either.
    """
    try:
        return lower(_after(user_function, ir.after_user_function())[0])
    except (NotSplittableError, NotLowerableError):
        return None


def _written_out(function: Any, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """What a function without captures returns, as its operations in place of a call."""
    given = {inside.name: each for inside, each in zip(function.inputs, tensors, strict=True)}
    names = [each.name for each in function.outputs]
    found: list[tf.Tensor] = tf.graph_util.import_graph_def(
        function.graph.as_graph_def(), input_map=given, return_elements=names
    )
    return found


def _after(encoder: Any, ir: ScorerIr, *, integers_are_places: bool = False) -> tuple[ScorerIr, list[Tensor]]:
    """A scorer of what `encoder` makes its state of, and that state."""
    inputs, outputs = read_encoder(encoder, integers_are_places=integers_are_places)
    encoded = list(map(clean_encoder, outputs))
    # A state in float16 or bfloat16 is widened first, as the encoder's results are.
    state = [
        each if each.dtype == result.dtype else cast(each)
        for each, result in zip(ir.state, encoded, strict=True)
    ]
    output = substitute(ir.output, dict(zip(state, encoded, strict=True)))
    return ScorerIr(output, inputs, inputs, ir.tables), encoded


def _beside_tensorflow(whole: ScorerIr, encoder: Any) -> Encoded:
    """The program after what TensorFlow has to compute of the integers among the user's tensors."""
    rest, beside = whole, dict[Tensor, Tensor]()  # To the program each is an input.
    while True:
        try:
            program = lower_after(rest, (), has_user_function=True)
            break
        except NotLowerableError as error:
            found = _of_integers(error.tensor, rest.output)
            if not found or len(beside) + len(found) > _MOST_BESIDE:
                raise
            given = {each: _input(each, len(beside) + at) for at, each in enumerate(found)}
            beside |= {new: substitute(each, beside) for each, new in given.items()}
            user = (*whole.user, *beside)
            rest = ScorerIr(substitute(rest.output, given), user, user, rest.tables)
    bound = {each: f"user_{number}" for number, each in enumerate(whole.state)}
    arguments = [(name, tf.TensorSpec(each.known_shape, each.dtype)) for each, name in bound.items()]
    results = [*whole.state, *beside.values()]
    library = encoder.graph.as_graph_def().library
    return Encoded(rest, program, to_function("user_part", arguments, results, bound, library=library))


def _of_integers(tensor: Tensor, output: Tensor) -> list[Tensor]:
    """What a program can take in place of `tensor`, or of what reads it, and follows from integers alone."""
    readers = readers_of(output)
    pending, found = [tensor], list[Tensor]()
    while pending:
        each = pending.pop()
        read = [node.outputs[0].dtype for node in topological([each]) if node.op == "source"]
        if not each.is_free or not all(dtype.is_integer or dtype.is_bool for dtype in read):
            return []
        if each.dtype not in PROGRAM_TYPES or each.known_shape is None:
            pending += readers.get(each, [])
        elif each not in found:
            found.append(each)
    return found


def _input(x: Tensor, number: int) -> Tensor:
    return source(f"beside_{number}", Spec(x.dtype, x.known_shape), Needs.USER)
