"""Loops of a scorer: those of a known number of rounds are written out, the others are left to TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import _search, split_function
from nann.export.scorer._branches import without_branches
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer._unroll import without_loops
from support.splitting import frozen, largest_difference

L, D = 5, 8
GRU = keras.layers.GRU(4)
CALLED_GRU = tf.function(keras.layers.GRU(4))
TABLE = tf.Variable(np.random.default_rng(1).normal(size=(7, D)).astype(np.float32))
KERNEL = tf.Variable(np.random.default_rng(0).normal(size=(D, D)).astype(np.float32) * 0.4)


def loops(function: Any) -> list[str]:
    return [each.type for each in function.graph.get_operations() if "While" in each.type]


def rounds(user: Any, item: tf.Tensor) -> tf.Tensor:
    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return i + 1, tf.tanh(x @ KERNEL) + user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, x: i < 3, step, (0, item))[1], -1)


def downwards(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The number of rounds hangs on two of the variables, and is not counted by one."""

    def step(i: tf.Tensor, left: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return i + 2, left - i, tf.tanh(x) * user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, left, x: left > 0, step, (1, 9, item))[2], -1)


def nested(user: Any, item: tf.Tensor) -> tf.Tensor:
    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inner = tf.while_loop(lambda j, y: j < 2, lambda j, y: (j + 1, tf.tanh(y)), (0, x))[1]
        return i + 1, inner + user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, x: i < 2, step, (0, item))[1], -1)


def none_at_all(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = tf.while_loop(lambda i, x: i < 0, lambda i, x: (i + 1, tf.tanh(x)), (0, item))[1]
    return tf.linalg.matvec(x, user["taste"])


def recurrent(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A GRU over the events, each beside the item."""
    n = item.shape[0]
    events = tf.repeat(user["events"][tf.newaxis], n, 0) * item[:, tf.newaxis]
    return tf.reduce_sum(GRU(events) * item[:, :4], -1) + tf.reduce_sum(user["taste"])


def called(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A network of a SavedModel, or in a `tf.function`: its constants wait for the arguments of the call."""
    return CALLED_GRU(tf.repeat(user["events"][tf.newaxis], item.shape[0], 0) * item[:, tf.newaxis])[:, 0]


def calling(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Each round calls a function that XLA compiles."""

    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return i + 1, compiled_step(x) * user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, x: i < 3, step, (0, item))[1], -1)


@tf.function(jit_compile=True)
def compiled_step(x: tf.Tensor) -> tf.Tensor:
    return tf.tanh(x @ KERNEL)


def mapped(user: Any, item: tf.Tensor) -> tf.Tensor:
    scores = tf.map_fn(lambda event: tf.linalg.matvec(tf.tanh(item * event), user["taste"]), user["events"])
    return tf.reduce_sum(scores, 0)


def gathering(user: Any, item: tf.Tensor) -> tf.Tensor:
    """`tf.gather` of a variable reads the variable itself: in a round here, in a branch of the user's."""

    def times_its_row(event: tf.Tensor) -> tf.Tensor:
        return event * tf.gather(TABLE, code_of(event))

    code = code_of(user["taste"])
    row = tf.cond(code > 3, lambda: tf.gather(TABLE, code), lambda: tf.gather(TABLE, [code + 1])[0])
    events = tf.map_fn(times_its_row, user["events"])
    return tf.reduce_sum(tf.tanh(item @ tf.transpose(events)), -1) + tf.linalg.matvec(item, row)


def associative(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Its recursion branches by shapes that are known only when the branches before are written out."""
    events = tf.tile(user["events"], [4, 1])[tf.newaxis] * item[:, tf.newaxis]
    pairs = keras.ops.associative_scan(
        lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (tf.sigmoid(events), events), axis=1
    )
    return tf.reduce_sum(pairs[1][:, -1] * user["taste"], -1)


def ends_at_a_missing_event(user: Any, item: tf.Tensor) -> tf.Tensor:
    """`break`: the rounds are five at most, and the user says how many."""
    return tf.reduce_sum(until_zero(user["events"], item), -1) + user["taste"][0]


@tf.function
def until_zero(events: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    for i in tf.range(L):
        if events[i, 0] < 0:
            break
        x = tf.tanh(x @ KERNEL + events[i])
    return x


@tf.function
def while_above_zero(events: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    i = 0
    while i < L and events[i, 0] > 0:
        x = tf.tanh(x @ KERNEL + events[i])
        i += 1
    return x * tf.cast(i, tf.float32)


def goes_on_while_above_zero(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(while_above_zero(user["events"], item), -1) + user["taste"][0]


def newton(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A number of the user's that is found in so many steps at most."""
    wanted = tf.reduce_sum(user["taste"] ** 2)

    def step(x: tf.Tensor, error: tf.Tensor) -> list[tf.Tensor]:
        return [(x + wanted / x) / 2, tf.abs(x * x - wanted)]

    begin = (tf.constant(1.0), tf.constant(1.0))
    root = tf.while_loop(lambda x, error: error > 1e-2, step, begin, maximum_iterations=20)[0]
    return tf.linalg.matvec(item, user["events"][0]) / root


def chosen_in_each_round(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Rounds that hang on one another, each with a branch."""

    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        event = user["events"][i % L]
        return i + 1, x / 2 + tf.cond(event[0] > 0, lambda: tf.tanh(x @ KERNEL + event), lambda: x * 0.4)

    x = tf.while_loop(lambda i, x: i < 10, step, (0, item))[1]
    return tf.linalg.matvec(x, user["taste"])


def code_of(vector: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.abs(vector[0]), tf.int32) % 7


@pytest.mark.parametrize(
    "score",
    [
        *(rounds, downwards, nested, none_at_all, recurrent, called, calling, mapped, gathering, associative),
        *(ends_at_a_missing_event, goes_on_while_above_zero, newton, chosen_in_each_round),
    ],
)
def test_known_rounds_are_written_out(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D], taste=[D]).function
    assert loops(function) or score is associative
    assert not loops(without_loops(function, tile_rows=function.inputs[-1].shape[0]))
    result = split_function(function, max_table_width=4096)
    assert largest_difference(function, result) <= 1e-5
    assert result.ir is not None
    lower(result.ir)


def test_to_write_out_one_branch_doubles_no_other() -> None:
    function = frozen(chosen_in_each_round, events=[L, D], taste=[D]).function
    found = without_branches(without_loops(function))
    assert found is not function
    assert len(found.graph.get_operations()) < 10 * 60


def test_a_loop_of_more_rounds_than_a_tile_has_items_is_written_out() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = tf.while_loop(lambda i, x: i < 100, lambda i, x: (i + 1, tf.tanh(x + 0.1)), (0, item))[1]
        return tf.linalg.matvec(x, user["taste"])

    function = frozen(score, events=[L, D], taste=[D]).function
    assert not loops(without_loops(function, tile_rows=function.inputs[-1].shape[0]))


def test_as_many_events_as_items_in_a_tile() -> None:
    """A round that has the state of the one before is of an event."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        events = tf.repeat(user["events"][:, tf.newaxis], item.shape[0], axis=1)
        states = tf.scan(lambda before, each: tf.tanh(before + each), events, item)
        return tf.reduce_sum(states[-1], -1)

    function = frozen(score, tile_rows=128, events=[128, D]).function
    assert not loops(without_loops(function, tile_rows=128))


def test_what_all_rounds_have_is_rewritten_in_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rewrite of the whole graph is tried: one for each round would take minutes."""
    tried = []
    normal = _search._normal
    monkeypatch.setattr(_search, "_normal", lambda output: tried.append(output) or normal(output))
    function = frozen(recurrent, events=[30, D], taste=[D]).function
    result = split_function(function, max_table_width=4096)
    assert largest_difference(function, result) <= 1e-5
    assert len(tried) < 30


def many(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = tf.while_loop(lambda i, x: i < 1000, lambda i, x: (i + 1, tf.tanh(x + 0.1)), (0, item))[1]
    return tf.linalg.matvec(x, user["taste"])


def as_the_user_says(user: Any, item: tf.Tensor) -> tf.Tensor:
    n = tf.cast(tf.reduce_sum(user["taste"]), tf.int32) % 4
    x = tf.while_loop(lambda i, x: i < n, lambda i, x: (i + 1, tf.tanh(x + 0.1)), (0, item))[1]
    return tf.linalg.matvec(x, user["taste"])


def reads_beyond_the_last(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The user ends it; the rounds that it may have at most ask for an event that is not there."""

    def goes_on(i: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.logical_and(i < L + 3, i < code_of(user["taste"]) % 4)

    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return i + 1, tf.tanh(x + tf.gather(user["events"], i))

    return tf.linalg.matvec(tf.while_loop(goes_on, step, (0, item))[1], user["taste"])


def ends_when_all_items_have(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The items of a tile end it: no round may be left out for one of them alone."""

    def goes_on(i: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.logical_and(i < L, tf.reduce_any(x < 2.0))

    x = tf.while_loop(goes_on, lambda i, x: (i + 1, tf.minimum(x + 1, 2.0)), (0, item * 0))[1]
    return tf.linalg.matvec(x * item, user["taste"])


@pytest.mark.parametrize("score", [many, as_the_user_says, reads_beyond_the_last, ends_when_all_items_have])
def test_other_loops_stay(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D], taste=[D]).function
    assert loops(without_loops(function, tile_rows=function.inputs[-1].shape[0])) == loops(function)
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5


@pytest.mark.parametrize("read", [lambda x, i: x[i], tf.gather], ids=["slice", "gather"])
def test_a_branch_that_not_each_user_can_take_stays(read: Callable[..., tf.Tensor]) -> None:
    """In the last round there is no event behind; only the users' values say so."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        events = user["events"]
        left = 3 - code_of(user["taste"]) % 2

        def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return i + 1, tf.cond(i < left, lambda: tf.tanh(x * read(events, i + 1)), lambda: x * 0.9)

        x = tf.while_loop(lambda i, x: i < L, step, (0, item))[1]
        return tf.linalg.matvec(x, user["taste"])

    function = frozen(score, events=[L, D], taste=[D]).function
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5


def test_a_loop_over_the_items_of_a_tile_stays() -> None:
    """Its rounds wait for one another, so that not all can be computed at once."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        def one(before: tf.Tensor, each: tf.Tensor) -> tf.Tensor:
            return before * 0.5 + tf.tensordot(tf.tanh(each), user["taste"], 1)

        return tf.scan(one, item, initializer=0.0)

    function = frozen(score, tile_rows=128, taste=[D]).function
    result = split_function(function, max_table_width=4096)
    assert loops(result.function)
    assert largest_difference(function, result) <= 1e-5


def test_a_loop_that_stays_is_the_reason() -> None:
    function = frozen(many, taste=[D]).function
    ir = split_function(function, max_table_width=4096).ir
    assert ir is not None
    with pytest.raises(NotLowerableError, match=r"While.*a loop of more than 512 rounds"):
        lower(ir)
