"""Random scorers of rank 3 and 4: pairs of item and events, sequences with the item, attention with heads."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from support.random_scorer import D, L, RandomModel


class RandomRank3(RandomModel):
    """Values [n, rows, columns] of three sizes beside the values of `RandomModel`."""

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        self._rows = [item_embs] * 2
        self._events = [user_state["events"]]
        self._profiles = [user_state.get("profile", user_state["events"][0])]
        self._present = user_state.get("present", tf.reduce_any(user_state["events"] != 0, -1))
        self._matrices: list[tf.Tensor] = [
            item_embs[:, tf.newaxis] * user_state["events"]
        ]  # [n, rows, columns]
        kinds = [
            self._pairs, self._sequence, self._sequence, self._dense_of_rows, self._self_attention,
            self._self_attention, self._by_einsum, self._across, self._over_an_axis, self._softmax_of_rows,
            self._cut, self._joined, self._turned, self._other_sides, self._in_time, self._with_heads,
            self._norm_of_rows, self._function, self._dense, self._with_user,
        ]  # fmt: skip
        for _ in range(1 + self._operations // 6):
            made = kinds[self._choose(len(kinds))]()
            if made is not None:
                (self._matrices if made.shape.rank == 3 else self._rows).append(made)
        last = [tf.reduce_mean(each, [1, 2]) for each in self._matrices[-2:]]
        return tf.add_n([*last, 0.4 * tf.reduce_mean(self._rows[-1], -1)])

    def _matrix(self) -> tf.Tensor:
        return self._pick(self._matrices)

    def _bounded(self, x: tf.Tensor) -> tf.Tensor:
        return tf.tanh(x) if self._choose(3) == 0 else x

    def _wide(self, width: int) -> tf.Tensor:
        """A matrix of `width` columns."""
        x = self._matrix()
        if x.shape[-1] == width:
            return x
        return tf.tensordot(x, self._weights(x.shape[-1], width), 1)

    def _row_of(self, width: int) -> tf.Tensor:
        x = self._pick(self._rows)
        return x if x.shape[-1] == width else self._project(x, width)

    def _pairs(self) -> tf.Tensor:
        events = self._pick(self._events)
        x, y = self._row_of(events.shape[-1])[:, tf.newaxis], events
        ways = [lambda: x + y, lambda: tf.tanh(x) * y, lambda: y - x, lambda: tf.maximum(x, y)]
        return self._bounded(ways[self._choose(4)]())

    def _sequence(self) -> tf.Tensor:
        """The item is one more event."""
        events = self._pick(self._events)
        item = self._row_of(events.shape[-1])[:, tf.newaxis]
        tiled = tf.tile(events[tf.newaxis], [tf.shape(item)[0], 1, 1])
        return tf.concat([tiled, item] if self._choose(2) else [item, tiled, item], 1)

    def _dense_of_rows(self) -> tf.Tensor:
        x = self._matrix()
        kernel = self._weights(x.shape[-1], self._width())
        product = tf.tensordot(x, kernel, 1) if self._choose(2) else tf.einsum("nrc,cd->nrd", x, kernel)
        biases = [
            lambda: self._weights(kernel.shape[-1]),
            lambda: self._row_of(kernel.shape[-1])[:, tf.newaxis],
            lambda: self._weights(x.shape[1], kernel.shape[-1]),
            lambda: self._weights(x.shape[1], 1),
        ]
        product += biases[self._choose(4)]()
        return tf.nn.relu(product) if self._choose(2) else self._bounded(product)

    def _self_attention(self) -> tf.Tensor:
        x = self._wide(8)
        n, heads = x.shape[1], (1, 2, 4)[self._choose(3)]
        query, key, value = (
            tf.reshape(tf.tensordot(x, self._weights(8, 8), 1), [-1, n, heads, 8 // heads]) for _ in "qkv"
        )
        if self._choose(2):
            logits = tf.einsum("nahd,nbhd->nhab", query, key) * 0.4
            joined = lambda weights: tf.einsum("nhab,nbhd->nahd", weights, value)  # noqa: E731
        else:
            query, key, value = (tf.transpose(each, [0, 2, 1, 3]) for each in (query, key, value))
            logits = tf.matmul(query, key, transpose_b=True) * 0.4
            joined = lambda weights: tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])  # noqa: E731
        biases = [
            lambda: 0.0, lambda: self._weights(n, n), lambda: self._weights(heads, 1, n),
            lambda: self._weights(heads, n, n), lambda: self._row_of(n)[:, tf.newaxis, tf.newaxis],
        ]  # fmt: skip
        weights = tf.nn.softmax(logits + biases[self._choose(5)]())
        return x + tf.reshape(joined(weights), [-1, n, 8])

    def _by_einsum(self) -> tf.Tensor:
        """Products of two values of the item, over any axis."""
        x, y = tf.tanh(self._wide(8)), tf.tanh(self._wide(8))
        if self._choose(2):
            return tf.einsum("nac,nbc->nab", x, y) * 0.3
        y = y if y.shape[1] == x.shape[1] else x
        return tf.einsum("nra,nrb->nab", x, y) * 0.3

    def _across(self) -> tf.Tensor:
        """Outer products of the columns, as a compressed interaction network has them."""
        x = tf.tanh(self._wide(4)[:, :4])
        return tf.reshape(tf.einsum("nac,nbc->ncab", x, x), [-1, 4, x.shape[1] ** 2])

    def _over_an_axis(self) -> tf.Tensor:
        functions = [tf.reduce_sum, tf.reduce_mean, tf.reduce_max, tf.reduce_min]
        x, axis = self._matrix(), (1, 2)[self._choose(2)]
        scale = 1 / x.shape[axis]
        return functions[self._choose(4)](x * scale, axis, keepdims=bool(self._choose(2)))

    def _softmax_of_rows(self) -> tf.Tensor:
        x = self._matrix()
        if x.shape[1] == L and self._choose(2):
            x = tf.where(self._present[:, tf.newaxis], x, -1e9)
        return tf.nn.softmax(x, axis=1 + self._choose(2))

    def _cut(self) -> tf.Tensor:
        x = self._matrix()
        rows, columns = self._choose(x.shape[1]), self._choose(x.shape[2])
        ways = [
            lambda: x[:, rows:], lambda: x[:, rows], lambda: x[:, :, columns:], lambda: x[..., columns],
            lambda: x[:, -1:, : columns + 1], lambda: tf.unstack(x, axis=1)[rows],
        ]  # fmt: skip
        return ways[self._choose(6)]()

    def _joined(self) -> tf.Tensor:
        x, y = self._wide(8), self._wide(8)
        if self._choose(2) or x.shape[1] != y.shape[1]:
            return tf.concat([x, y], 1)[:, : 2 * L]
        return tf.concat([x, y], 2)

    def _turned(self) -> tf.Tensor:
        return tf.transpose(self._matrix(), [0, 2, 1])

    def _other_sides(self) -> tf.Tensor:
        """Reshapes that mix rows and columns."""
        x = self._matrix()
        rows, columns = x.shape[1:]
        ways = [
            lambda: tf.reshape(x, [-1, rows * columns]),
            lambda: tf.reshape(x, [-1, columns, rows]),
            lambda: tf.reshape(x, [-1, rows * columns, 1]),
            lambda: tf.reshape(tf.tanh(tf.reshape(x, [-1, columns])), [-1, rows, columns]),
        ]
        return ways[self._choose(4)]()

    def _in_time(self) -> tf.Tensor:
        """As a recurrence that is written out: events first, then one after the other."""
        steps = tf.unstack(tf.transpose(self._matrix()[:, :4], [1, 0, 2]))
        state = tf.zeros_like(steps[0])
        for step in steps:
            state = tf.tanh(step + 0.5 * state)
        return state

    def _with_heads(self) -> tf.Tensor:
        """What is elementwise or a reduction among values of rank 4."""
        x = self._wide(8)
        heads = tf.transpose(tf.reshape(x, [-1, x.shape[1], 2, 4]), [0, 2, 1, 3])
        ways = [
            lambda: tf.reduce_max(heads, 1),
            lambda: tf.reduce_sum(heads * self._weights(2, 1, 4), 2),
            lambda: tf.reduce_mean(heads + self._weights(x.shape[1], 1), -1),
            lambda: tf.reshape(heads - tf.reduce_mean(heads, 2, keepdims=True), [-1, 2 * x.shape[1], 4]),
        ]
        return ways[self._choose(4)]()

    def _norm_of_rows(self) -> tf.Tensor:
        x = self._matrix()
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 0.1) * self._weights(x.shape[-1])

    def _function(self) -> tf.Tensor:
        functions = [tf.nn.relu, tf.sigmoid, tf.tanh, tf.nn.gelu, tf.nn.silu, tf.sin, tf.cos]
        return functions[self._choose(len(functions))](self._matrix())


assert D == 8, "the item's width: the sizes above are made for it"
