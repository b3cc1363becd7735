"""Complex numbers in our form: a real and an imaginary part, each a tensor of its own.

A complex tensor is the operation Complex of its parts, or a constant. Where all operations of complex numbers
are known, nothing reads the Complex itself in the end, and only its parts are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._ir import Array, Spec, Tensor, constant
from nann.export.scorer._ops import (
    add,
    arithmetic,
    axis_last,
    broadcast,
    complex_of,
    divide,
    dot,
    mul,
    negated,
    select,
    transpose,
    unary,
)
from nann.export.scorer._slices import padded, part_of

Parts = tuple[Tensor, Tensor]
# What an operation of real numbers is in our form.
_ReadReal = Callable[[Reading], Found]
_Import = Callable[[Reading], Found]
_IMPORTS: dict[str, _Import] = {}

# Of both parts alike.
_ALIKE = """
    Add AddN AddV2 BroadcastTo ConcatV2 EnsureShape ExpandDims GatherV2 Identity IdentityN MatrixDiagPartV3
    Mean MirrorPad Neg Pack Pad Reshape ReverseV2 Roll Slice Split SplitV Squeeze StridedSlice Sub Sum Tile
    Transpose Unpack
"""
_LINEAR = frozenset(_ALIKE.split())
_BILINEAR = frozenset(["BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul", "Mul"])
# A transform is a product with a matrix, which is square: longer ones would take too many multiplications.
_MOST_TRANSFORMED = 256


def is_complex(r: Reading) -> bool:
    """Whether an operation reads or makes complex numbers."""
    return any(dtype.is_complex for dtype in _types(r))


def _types(r: Reading) -> set[tf.DType]:
    return {each.dtype for each in r.inputs} | {each.dtype for each in r.specs}


def complex_form(r: Reading, read_real: _ReadReal) -> Found:
    """An operation of complex64 by its parts; None of constants, which fold by themselves."""
    types = _types(r)
    if not any(each.needs for each in r.inputs) or tf.complex128 in types or tf.float64 in types:
        return None
    if any(each.dtype.is_complex and _parts(each) is None for each in r.inputs):
        return None
    op = r.operation.type
    if op in _LINEAR:
        return _linear(r, read_real)
    if op in _BILINEAR and len(r.inputs) == 2:
        return _bilinear(r, read_real)
    return _IMPORTS[op](r) if op in _IMPORTS else None


def _parts(x: Tensor) -> Parts | None:
    if not x.dtype.is_complex:
        return x, _zeros(x)
    if x.value is not None:
        return constant(x.value.real.copy()), constant(x.value.imag.copy())
    return (x.inputs[0], x.inputs[1]) if x.op == "Complex" and x.dtype == tf.complex64 else None


def _known_parts(x: Tensor) -> Parts:
    parts = _parts(x)
    assert parts is not None
    return parts


def _zeros(x: Tensor) -> Tensor:
    return broadcast(constant(0, np.float32), x.shape)


def _is_zero(x: Tensor) -> bool:
    value = x.inputs[0].value if x.op == "broadcast" else x.value
    return value is not None and not value.any()


def _of_real(r: Reading, inputs: Sequence[Tensor], read_real: _ReadReal) -> list[Tensor] | None:
    """The results of the same operation of real numbers."""
    specs = tuple(Spec(tf.float32, spec.shape) for spec in r.specs)
    found = read_real(replace(r, inputs=tuple(inputs), specs=specs))
    return [found] if isinstance(found, Tensor) else found


def _linear(r: Reading, read_real: _ReadReal) -> Found:
    found = []
    for part in range(2):
        inputs = [_known_parts(each)[part] if each.dtype.is_complex else each for each in r.inputs]
        results = _of_real(r, inputs, read_real)
        if results is None:
            return None
        found.append(results)
    return [complex_of(*each) for each in zip(*found, strict=True)]


def _bilinear(r: Reading, read_real: _ReadReal) -> Found:
    sides = [_known_parts(each) for each in r.inputs]
    if r.operation.type.startswith("BatchMatMul"):  # Its flags say adjoint: transposed and conjugated.
        sides = [
            (real, negated(imaginary)) if r.attr(flag) else (real, imaginary)
            for flag, (real, imaginary) in zip(("adj_x", "adj_y"), sides, strict=True)
        ]
    products = []
    for left, right in ((0, 0), (1, 1), (0, 1), (1, 0)):
        factors = [sides[0][left], sides[1][right]]
        if any(map(_is_zero, factors)):  # Of numbers that are real, or wholly imaginary.
            products.append(broadcast(constant(0, np.float32), r.shape))
            continue
        found = _of_real(r, factors, read_real)
        if found is None:
            return None
        products += found
    return complex_of(add(products[0], negated(products[1])), add(products[2], products[3]))


def _reads(*ops: str) -> Callable[[_Import], _Import]:
    def register(function: _Import) -> _Import:
        _IMPORTS.update(dict.fromkeys(ops, function))
        return function

    return register


@_reads("Complex")
def _complex(r: Reading) -> Found:
    return complex_of(*r.inputs)


@_reads("Cast")
def _cast(r: Reading) -> Found:
    """A real number has no imaginary part, and a complex one loses it."""
    if r.inputs[0].dtype not in (tf.float32, tf.complex64):
        return None
    real, imaginary = _known_parts(r.inputs[0])
    kind = r.specs[0].dtype
    return complex_of(real, imaginary) if kind == tf.complex64 else real if kind == tf.float32 else None


@_reads("Real")
def _real(r: Reading) -> Found:
    return _known_parts(r.inputs[0])[0]


@_reads("Imag")
def _imaginary(r: Reading) -> Found:
    return _known_parts(r.inputs[0])[1]


@_reads("Conj")
def _conjugate(r: Reading) -> Found:
    real, imaginary = _known_parts(r.inputs[0])
    return complex_of(real, negated(imaginary))


@_reads("ComplexAbs")
def _modulus(r: Reading) -> Found:
    return unary("Sqrt", _square_of_modulus(_known_parts(r.inputs[0])))


@_reads("Angle")
def _angle(r: Reading) -> Found:
    real, imaginary = _known_parts(r.inputs[0])
    return arithmetic("Atan2", imaginary, real)


@_reads("Exp")
def _exp(r: Reading) -> Found:
    real, imaginary = _known_parts(r.inputs[0])
    waves = [unary("Cos", imaginary), unary("Sin", imaginary)]
    if not _is_zero(real):
        waves = [mul(unary("Exp", real), each) for each in waves]
    return complex_of(*waves)


@_reads("Log")
def _log(r: Reading) -> Found:
    parts = _known_parts(r.inputs[0])
    logarithm = mul(constant(0.5, np.float32), unary("Log", _square_of_modulus(parts)))
    return complex_of(logarithm, arithmetic("Atan2", parts[1], parts[0]))


@_reads("Square")
def _square(r: Reading) -> Found:
    real, imaginary = _known_parts(r.inputs[0])
    twice = mul(real, imaginary, constant(2, np.float32))
    return complex_of(add(unary("Square", real), negated(unary("Square", imaginary))), twice)


@_reads("Div", "RealDiv")
def _quotient(r: Reading) -> Found:
    """x / y is x times the conjugate of y, by the square of its modulus."""
    (a, b), by = (_known_parts(each) for each in r.inputs)
    c, d = by
    square = _square_of_modulus(by)
    return complex_of(
        divide(add(mul(a, c), mul(b, d)), square), divide(add(mul(b, c), negated(mul(a, d))), square)
    )


def _square_of_modulus(parts: Parts) -> Tensor:
    return add(*(unary("Square", part) for part in parts))


@_reads("SelectV2")
def _selected(r: Reading) -> Found:
    condition, positive, negative = r.inputs
    parts = zip(_known_parts(positive), _known_parts(negative), strict=True)
    return complex_of(*(select(condition, *each) for each in parts))


# ---------------------------------------------------------------------- discrete Fourier transforms


@_reads("FFT", "FFT2D", "FFT3D", "IFFT", "IFFT2D", "IFFT3D")
def _transformed(r: Reading) -> Found:
    """Along the last axis, or the last two or three, one after the other."""
    kind = r.operation.type
    count = int(kind[-2]) if kind.endswith("D") else 1
    parts: Parts | None = _known_parts(r.inputs[0])
    for axis in range(len(r.shape) - count, len(r.shape)):
        parts = None if parts is None else _transformed_along(axis, *parts, is_inverse=kind[0] == "I")
    return None if parts is None else complex_of(*parts)


def _transformed_along(axis: int, real: Tensor, imaginary: Tensor, *, is_inverse: bool) -> Parts | None:
    """(a + ib)(cos - i sin), summed; the inverse turns the other way, and divides."""
    n = real.shape[axis]
    if n > _MOST_TRANSFORMED:
        return None
    cosine, sine = (constant((each / n if is_inverse else each).astype(np.float32)) for each in _waves(n, n))
    turned = negated(sine) if is_inverse else sine
    perm, back = axis_last(real.rank, axis)
    a, b = transpose(real, perm), transpose(imaginary, perm)
    return (
        transpose(add(dot(a, cosine), dot(b, turned)), back),
        transpose(add(dot(b, cosine), negated(dot(a, turned))), back),
    )


@_reads("RFFT")
def _half_transformed(r: Reading) -> Found:
    """Of real numbers: the half that says all."""
    n = _length(r)
    if n is None:
        return None
    x = _of_length(r.inputs[0], n)
    cosine, sine = (constant(each.astype(np.float32)) for each in _waves(n, n // 2 + 1))
    return complex_of(dot(x, cosine), negated(dot(x, sine)))


@_reads("IRFFT")
def _from_half(r: Reading) -> Found:
    """What is not in the half is the conjugate of what is."""
    n = _length(r)
    if n is None:
        return None
    half = n // 2 + 1
    real, imaginary = (_of_length(each, half) for each in _known_parts(r.inputs[0]))
    times = np.full((half, 1), 2.0)
    times[0] = 1
    if n % 2 == 0:
        times[-1] = 1
    cosine, sine = (constant((each.T * times / n).astype(np.float32)) for each in _waves(n, half))
    return add(dot(real, cosine), negated(dot(imaginary, sine)))


def _length(r: Reading) -> int | None:
    lengths = integers(r.inputs[1])
    return lengths[0] if lengths and 0 < lengths[0] <= _MOST_TRANSFORMED else None


def _of_length(x: Tensor, n: int) -> Tensor:
    """The first `n` of the last axis; zeros where there are fewer."""
    last = x.rank - 1
    if x.shape[-1] >= n:
        return part_of(x, last, 0, n)
    return padded(x, [*[(0, 0)] * last, (0, n - x.shape[-1])], 0)


def _waves(n: int, frequencies: int) -> tuple[Array, Array]:
    """cos and sin of 2 pi j k / n, [n, frequencies], exact where they are 0 or 1."""
    turns = np.outer(np.arange(n), np.arange(frequencies)) % n
    angles = 2 * np.pi * np.arange(n) / n
    cosine, sine = np.cos(angles), np.sin(angles)
    quarters = [n * quarter // 4 for quarter in range(4) if n * quarter % 4 == 0]
    cosine[quarters], sine[quarters] = np.round(cosine[quarters]), np.round(sine[quarters])
    return cosine[turns], sine[turns]
