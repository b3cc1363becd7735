"""Scorer programs: what they are lowered to, that both sides know the same format, and the same scores."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nann.export.scorer import _program as program_module
from nann.export.scorer import freeze_scorer, split_function
from nann.export.scorer._encoded import lower_with_user_part
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer._program import Activation, Opcode, ProgramWriter, UnaryOp
from nann.export.scorer.split import whole_scorer
from nann.training._model import ModelConfig, ReferenceModel
from support.native_scores import ITEMS, TILE_ROWS, scores_of
from support.random_rank3 import RandomRank3
from support.random_scorer import RandomModel
from support.splitting import FunctionModel, split

ROOT = Path(__file__).parents[2]
L, D = 5, 8


# ---------------------------------------------------------------------- the format


def _enumerations(path: Path) -> dict[str, list[str]]:
    """Of a C++ header: name -> names of its values as Python has them."""
    found = re.findall(r"enum class (\w+) \{([^}]*)\}", path.read_text())
    return {
        name: [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", each[1:]).upper() for each in re.findall(r"k\w+", values)]
        for name, values in found
    }


def _in_python() -> dict[str, list[str]]:
    found = {}
    for name, kind in vars(program_module).items():
        if isinstance(kind, type) and issubclass(kind, enum.IntEnum) and kind is not enum.IntEnum:
            assert [each.value for each in kind] == list(range(len(kind)))
            found[name] = [each.name for each in kind]
    return found


def test_both_sides_number_alike() -> None:
    core = ROOT / "ops/core/scorer"
    native = _enumerations(core / "scorer_program.h") | _enumerations(core / "tile_kernels.h")
    assert native == _in_python()
    header = "".join((core / name).read_text() for name in ("scorer_program.h", "tile_kernels.h"))
    assert f"kVersion = {program_module.VERSION};" in header
    assert f"kMaxSummands = {program_module.MAX_SUMMANDS};" in header


def test_the_page_describes_every_instruction_and_function() -> None:
    page = (ROOT / "docs/scorer-program.md").read_text()
    described = re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    assert described == [(str(each.value), each.name.lower()) for each in Opcode]
    for name, values in _in_python().items():
        if name != "Opcode":
            assert ", ".join(f"{n} {value.lower()}" for n, value in enumerate(values)) in page.replace(
                "\n", " "
            )
    assert f"version {program_module.VERSION}" in page


# ---------------------------------------------------------------------- lowering


def opcodes(program: ProgramWriter, *, per_item: bool) -> list[str]:
    """Instructions that compute, of tiles or of the user."""
    passive = (Opcode.CONSTANT, Opcode.INPUT, Opcode.TABLE)
    return [
        each.opcode.name
        for each in program.instructions
        if each.opcode not in passive and each.shape.per_item == per_item
    ]


def test_the_reference_model_is_few_instructions() -> None:
    scorer = freeze_scorer(ReferenceModel(ModelConfig(items=20, categories=5)), tile_rows=32)
    result = split_function(scorer.function, max_table_width=4096)
    assert result.ir is not None
    program = lower(result.ir)
    assert not program.after_user_function
    tile = [each for each in opcodes(program, per_item=True) if each != "SLICE"]
    assert tile == ["GEMM", "SOFTMAX", "GEMM", "BINARY", "GEMM", "GEMM", "GEMM", "SIMILARITY"]
    gemms = [each for each in program.instructions if each.opcode == Opcode.GEMM]
    assert [each.parameters[0] for each in gemms if each.shape.per_item] == [1, 1, 2, 1, 1]
    activated = [each.function != Activation.NONE for each in gemms if each.shape.per_item]
    assert activated == [False, False, True, True, True]


def test_a_layer_is_one_instruction() -> None:
    kernel, bias = np.arange(16 * D, dtype=np.float32).reshape(D, 16), np.arange(16, dtype=np.float32)

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        taste = tf.matmul(tf.nn.relu(user["events"]), kernel)
        hidden = tf.nn.relu(tf.matmul(item * user["taste"], kernel) + bias)
        return tf.reduce_sum(hidden * tf.reduce_max(taste, 0), -1)

    result = split(score, events=[L, D], taste=[D])
    assert result.ir is not None
    program = lower(result.ir)
    assert opcodes(program, per_item=True) == ["GEMM", "SIMILARITY"]
    assert not program.is_similarity()


_GATES: dict[str, tuple[Any, UnaryOp]] = {
    "silu": (tf.nn.silu, UnaryOp.SILU),
    "gelu": (tf.nn.gelu, UnaryOp.TWICE_GELU),
    "gelu by erfc": (lambda x: 0.5 * x * tf.math.erfc(-x / np.sqrt(2.0)), UnaryOp.TWICE_GELU),
    "gelu by erfc, of halves": (
        lambda x: tf.reshape(
            tf.reshape(0.5 * x, [-1, 2, 4]) * tf.reshape(tf.math.erfc(-x / np.sqrt(2.0)), [-1, 2, 4]), [-1, 8]
        ),
        UnaryOp.TWICE_GELU,
    ),
    "silu times another": (lambda x: tf.abs(x) * tf.nn.silu(x), UnaryOp.SILU),
}


@pytest.mark.parametrize("name", _GATES)
def test_a_gate_of_its_own_argument_is_one_function(name: str) -> None:
    function, wanted = _GATES[name]

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(function(item * user["x"]), user["y"])

    traced = freeze_scorer(FunctionModel(score, x=[8], y=[8]), tile_rows=TILE_ROWS).function
    result = split_function(traced, max_table_width=4096)
    assert result.ir is not None
    program = lower(result.ir)
    assert wanted in [each.function for each in program.instructions if each.opcode == Opcode.UNARY]
    state = [np.random.default_rng(number).normal(size=(2, 8)).astype(np.float32) for number in range(2)]
    expected = scores_of(result, state, b"")
    np.testing.assert_allclose(scores_of(result, state, program.to_bytes()), expected, rtol=1e-5, atol=1e-5)


def test_another_gate_is_not() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = item * user["x"]
        return tf.reduce_sum(x * tf.sigmoid(1.7 * x) + tf.abs(x) * (1 + tf.math.erf(x)), -1)

    result = split(score, x=[8])
    assert result.ir is not None
    functions = [each.function for each in lower(result.ir).instructions if each.opcode == Opcode.UNARY]
    assert not {UnaryOp.SILU, UnaryOp.TWICE_GELU} & set(functions)


def test_an_inner_product_is_read_in_place() -> None:
    result = split(
        lambda user, item: -tf.linalg.matvec(item, tf.reduce_mean(user["events"], 0)), events=[L, D]
    )
    assert result.ir is not None
    program = lower(result.ir)
    assert opcodes(program, per_item=True) == ["SIMILARITY"]
    assert program.is_similarity()


def test_what_is_not_known_of_the_user_stays_with_tensorflow() -> None:
    result = split(lambda user, item: tf.linalg.matvec(item, tf.math.lgamma(user["taste"])), taste=[D])
    assert result.ir is not None
    assert lower(result.ir).after_user_function


def test_what_is_not_known_of_the_items_is_named() -> None:
    result = split(
        lambda user, item: tf.linalg.matvec(tf.math.lgamma(tf.multiply(item, user["taste"])), user["taste"]),
        taste=[D],
    )
    assert result.ir is not None
    with pytest.raises(
        NotLowerableError, match=r"node Lgamma.* \(Lgamma\): an operation that the native executor"
    ):
        lower(result.ir)


def test_a_scorer_of_thousands_of_levels_is_lowered() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = item
        for _ in range(1500):
            x = tf.tanh(x) * user["taste"]
        return tf.reduce_sum(x, -1)

    scorer = freeze_scorer(FunctionModel(score, taste=[D]), tile_rows=TILE_ROWS)
    assert len(lower(whole_scorer(scorer.function)).instructions) > 3000


@pytest.mark.parametrize("tile_rows", [1, 2])
def test_tiles_of_one_item_are_lowered_as_others(tile_rows: int) -> None:
    """Where the tile is of one item, an axis of size 1 may be the items or not."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        n = item.shape[0]
        joined = tf.concat([item, tf.tile(user["taste"][tf.newaxis], [n, 1]), tf.ones([n, 3])], -1)
        pairs = tf.maximum(joined[:, tf.newaxis], tf.reduce_max(user["events"]))
        return tf.reduce_sum(tf.tanh(pairs) * joined[:, tf.newaxis], [1, 2]) + tf.maximum(
            user["taste"][:1], 0.5
        )

    scorer = freeze_scorer(FunctionModel(score, events=[L, D], taste=[D]), tile_rows=tile_rows)
    program = lower(whole_scorer(scorer.function))
    assert opcodes(program, per_item=True).count("CONCAT") == 1
    assert program.instructions[-1].shape.per_item


# ---------------------------------------------------------------------- the same scores


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_programs_score_as_tensorflow(data: Any) -> None:
    _check_random_program(lambda n: data.draw(st.integers(0, n - 1)))


@pytest.mark.slow
def test_many_random_programs_score_as_tensorflow() -> None:
    compared = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        compared += _check_random_program(lambda n, random=random: int(random.integers(n)))
    assert compared > 300


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_programs_of_rank_3_score_as_tensorflow(data: Any) -> None:
    _check_random_program(lambda n: data.draw(st.integers(0, n - 1)), RandomRank3)


@pytest.mark.slow
def test_many_random_programs_of_rank_3_score_as_tensorflow() -> None:
    compared = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        compared += _check_random_program(lambda n, random=random: int(random.integers(n)), RandomRank3)
    assert compared > 300


def _check_random_program(choose: Callable[[int], int], kind: type[RandomModel] = RandomModel) -> bool:
    """Whether there was a program, whose scores then were those of the functions."""
    model = kind(choose, operations=1 + choose(60))
    function = freeze_scorer(model, tile_rows=TILE_ROWS).function
    result = split_function(function, max_table_width=(4096, 0, 16, 48)[choose(4)])
    if result.ir is None:
        return False
    try:
        program = lower(result.ir)
    except NotLowerableError:
        return False
    if program.after_user_function:
        program = lower_with_user_part(result.ir, result.user_function) or program
    state = [np.stack(each) for each in zip(*(model.state(seed).values() for seed in range(2)), strict=True)]
    expected, found = scores_of(result, state, b""), scores_of(result, state, program.to_bytes())
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1e-30, np.abs(expected).max()))
    order = np.random.default_rng(0).permutation(ITEMS)
    np.testing.assert_array_equal(scores_of(result, state, program.to_bytes(), order), found[:, order])
    return True
