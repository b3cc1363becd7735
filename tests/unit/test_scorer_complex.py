"""Scorers of complex numbers: their parts are real, so all of it is a program, with TensorFlow's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import split_function
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer.split import whole_scorer
from support.native_scores import TILE_ROWS, scores_of
from support.splitting import frozen, largest_difference

L, D = 6, 8
RANDOM = np.random.default_rng(4)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)
TABLE = RANDOM.normal(size=(2, D, D)).astype(np.float32)
FILTER = (RANDOM.normal(size=(L // 2 + 1, D)) + 1j * RANDOM.normal(size=(L // 2 + 1, D))).astype(np.complex64)

Score = Callable[[Any, tf.Tensor], tf.Tensor]


def halves(x: tf.Tensor) -> tf.Tensor:
    """[..., D] as D / 2 complex numbers."""
    return tf.complex(*tf.split(x, 2, axis=-1))


def weighted(x: tf.Tensor) -> tf.Tensor:
    """A real number per item that tells places, real and imaginary parts apart."""
    flat = tf.reshape(x, [x.shape[0], -1])
    weights = tf.linspace(0.5, 1.5, flat.shape[1])
    if not flat.dtype.is_complex:
        return tf.linalg.matvec(flat, weights)
    return tf.linalg.matvec(tf.math.real(flat), weights) + tf.linalg.matvec(tf.math.imag(flat), weights[::-1])


def complex_(user: Any, item: tf.Tensor) -> tf.Tensor:
    """ComplEx: the real part of a product of three."""
    head, tail = halves(user["events"][0]), halves(item)
    return tf.math.real(tf.reduce_sum(head * halves(user["events"][1]) * tf.math.conj(tail), axis=-1))


def rotate(user: Any, item: tf.Tensor) -> tf.Tensor:
    """RotatE: the relation turns the head; the distance to the tail is a sum of moduli."""
    turn = tf.exp(tf.complex(0.0, user["events"][1, : D // 2]))
    return -tf.reduce_sum(tf.abs(halves(user["events"][0]) * turn - halves(item)), axis=-1)


def holographic(user: Any, item: tf.Tensor) -> tf.Tensor:
    """HolE: a circular correlation by Fourier transforms."""
    user_waves = tf.signal.rfft(user["events"][0])
    correlated = tf.signal.irfft(tf.math.conj(user_waves) * tf.signal.rfft(item), [D])
    return weighted(tf.tanh(correlated))


def filtered(user: Any, item: tf.Tensor) -> tf.Tensor:
    """FMLP-Rec: a learned filter over the frequencies of the sequence, of which the item is part."""
    x = tf.concat([tf.repeat(user["events"][tf.newaxis, 1:], item.shape[0], 0), item[:, tf.newaxis]], axis=1)
    waves = tf.signal.rfft(tf.transpose(x, [0, 2, 1])) * tf.transpose(FILTER)
    return weighted(tf.transpose(tf.signal.irfft(waves, [L]), [0, 2, 1]) + x)


def polar(user: Any, item: tf.Tensor) -> tf.Tensor:
    """EulerNet: moduli multiply and phases add."""
    x = halves(user["events"][0] * item) + 0.1j
    return weighted(tf.exp(0.5 * tf.math.log(x)) * tf.cast(tf.abs(x), tf.complex64)) + weighted(
        tf.math.angle(x)
    )


def products(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Products of matrices: plain, adjoint, and by einsum."""
    x = halves(tf.reshape(item, [-1, 2, 4]))
    y = halves(user["events"])
    matrix = tf.complex(TABLE[0, :2, :3], TABLE[1, :2, :3])
    adjoint = tf.matmul(x, x, adjoint_b=True) + tf.matmul(x, tf.transpose(x, [0, 2, 1]))
    by_letters = tf.einsum("nab,lb->nal", x, y[:, :2])
    return weighted(tf.matmul(x[:, 0], matrix)) + weighted(adjoint) + weighted(by_letters)


def moved(user: Any, item: tf.Tensor) -> tf.Tensor:
    """What only moves numbers, sums, and a choice."""
    x = halves(user["events"][tf.newaxis] * item[:, tf.newaxis])
    parts = tf.unstack(tf.transpose(x, [0, 2, 1])[:, ::-1], axis=1)
    y = tf.stack([tf.reduce_sum(each, -1) for each in parts], axis=1) - tf.reduce_mean(x, axis=1)
    z = tf.where(tf.math.real(y) > 0, y, -tf.math.conj(y)) / (2.0 + tf.square(x[:, 0]) * tf.square(x[:, 0]))
    return weighted(tf.concat([tf.tile(z, [1, 2]), tf.roll(z, 1, 1), tf.gather(z, [2, 0], axis=1)], -1))


def transformed(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Fourier transforms of complex numbers, there and back, of other lengths too."""
    x = tf.signal.fft(halves(item * user["events"][0]))
    longer = tf.signal.irfft(tf.signal.rfft(item * user["events"][1], [7]), [9])
    shorter = tf.signal.rfft(item * user["events"][2], [5])
    return weighted(tf.signal.ifft(x * x)) + weighted(longer) + weighted(shorter)


def mixed_by_waves(user: Any, item: tf.Tensor) -> tf.Tensor:
    """FNet mixes tokens and features by a transform along both axes; and there and back along three."""
    x = user["events"][tf.newaxis] * item[:, tf.newaxis]
    cubes = tf.cast(tf.reshape(x, [-1, L, 2, D // 2]), tf.complex64)
    y = tf.signal.ifft3d(tf.square(tf.signal.fft3d(cubes)))
    flat = tf.signal.ifft2d(tf.signal.fft2d(halves(x)) * 2.0)
    return weighted(tf.math.real(tf.signal.fft2d(tf.cast(x, tf.complex64)))) + weighted(y) + weighted(flat)


SCORERS = [complex_, rotate, holographic, filtered, polar, products, moved, transformed, mixed_by_waves]


@pytest.mark.parametrize("score", SCORERS, ids=lambda score: score.__name__)
@pytest.mark.parametrize("width", [0, 4096])
def test_a_scorer_of_complex_numbers_is_a_program(score: Score, width: int) -> None:
    function = frozen(score, tile_rows=TILE_ROWS, events=[L, D]).function
    result = split_function(function, max_table_width=width)
    assert largest_difference(function, result) <= 1e-5
    program = lower(result.ir or whole_scorer(function))
    assert not program.after_user_function
    expected, found = scores_of(result, [EVENTS], b""), scores_of(result, [EVENTS], program.to_bytes())
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5 * np.abs(expected).max())


def test_what_is_not_known_of_complex_numbers_is_named() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return weighted(tf.math.tanh(halves(item * user["events"][0])))

    function = frozen(score, tile_rows=TILE_ROWS, events=[L, D]).function
    result = split_function(function, max_table_width=0)
    with pytest.raises(NotLowerableError, match="Tanh"):
        lower(result.ir or whole_scorer(function))
    assert np.isfinite(scores_of(result, [EVENTS], b"")).all()
