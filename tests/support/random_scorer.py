"""Random scorers: what people build retrieval models of, put together by chance, up to 60 operations.

Values stay near 1 whatever is drawn (weights are scaled, growing results squashed), so that two ways to
compute a score differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# The next choice: an integer in [0, n).
Choose = Callable[[int], int]

L, D = 6, 8
WIDTHS = (4, 8, 12)


class RandomModel:
    """A model with one to four user tensors whose `score` is drawn when it is traced."""

    user_features: dict[str, Any] = {}  # noqa: RUF012
    embedding_dim = D

    def __init__(self, choose: Choose, *, operations: int) -> None:
        self._choose = choose
        self._operations = operations
        self._random = np.random.default_rng(choose(2**16))
        specs = {
            "events": tf.TensorSpec([L, D], tf.float32),
            "profile": tf.TensorSpec([D], tf.float32),
            "present": tf.TensorSpec([L], tf.bool),
            "types": tf.TensorSpec([L], tf.int64),
        }
        names = ["events", "profile", "present", "types"][: 1 + choose(4)]
        self.user_state = {name: specs[name] for name in names}

    def embed_user(self, features: Any) -> Any:
        raise NotImplementedError("users of random models are drawn")

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError("items of random models are drawn")

    def state(self, seed: int) -> dict[str, tf.Tensor]:
        """A user."""
        random = np.random.default_rng(seed)
        values = {
            "events": random.normal(size=(L, D)).astype(np.float32),
            "profile": random.normal(size=D).astype(np.float32),
            "present": random.random(L) < 0.8,
            "types": random.integers(0, 4, L),
        }
        return {name: tf.constant(values[name]) for name in self.user_state}

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        self._rows: list[tf.Tensor] = [item_embs] * 3  # [n, width]
        self._events: list[tf.Tensor] = [user_state["events"]]  # [L, width]
        self._profiles: list[tf.Tensor] = [user_state.get("profile", user_state["events"][0])]  # [width]
        self._present = user_state.get("present", tf.reduce_any(user_state["events"] != 0, -1))
        self._types = user_state.get("types", tf.cast(user_state["events"][:, 0] > 0, tf.int64))
        self._given = user_state["events"]
        kinds = [
            self._dense, self._dense, self._dense, self._batch_norm, self._prelu, self._activation,
            self._attention, self._attention, self._by_hand, self._heads, self._layer_norm, self._concat,
            self._concat, self._slice, self._with_user, self._with_row, self._with_row, self._reduced,
            self._rank_three, self._control_flow, self._user_side, self._dot_product, self._noise,
            self._constant_rows, self._over_batch, self._over_batch, self._compared,
            self._one_more_event,
        ]  # fmt: skip
        graph = tf.compat.v1.get_default_graph()
        while len(_arithmetic(graph)) < self._operations:
            result = kinds[self._choose(len(kinds))]()
            if result is not None:
                self._rows.append(result)
        outputs = [tf.reduce_mean(row, -1) for row in self._rows[-3:]]
        return tf.add_n([outputs[0], 0.7 * outputs[1], 0.4 * outputs[2]])

    def _pick(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        """More often one of the latest."""
        back = min(self._choose(len(tensors)), self._choose(len(tensors)))
        return tensors[-1 - back]

    def _weights(self, *shape: int) -> tf.Tensor:
        scale = 1 / np.sqrt(shape[0]) if len(shape) > 1 else 0.5
        return self._constant(self._random.normal(size=shape) * scale)

    def _constant(self, value: Any) -> tf.Tensor:
        return tf.constant(value.astype(np.float32))  # what freezing makes of variables

    def _width(self) -> int:
        return WIDTHS[self._choose(len(WIDTHS))]

    def _project(self, x: tf.Tensor, width: int) -> tf.Tensor:
        return tf.matmul(x, self._weights(x.shape[-1], width))

    def _dense(self) -> tf.Tensor:
        x = self._project(self._pick(self._rows), self._width())
        return tf.nn.bias_add(x, self._weights(x.shape[-1])) if self._choose(2) else x

    def _batch_norm(self) -> tf.Tensor:
        x = self._pick(self._rows)
        width = x.shape[-1]
        scale, variance = (self._constant(self._random.uniform(0.5, 1.5, width)) for _ in "ab")
        if self._choose(3) == 0:
            y = tf.compat.v1.nn.fused_batch_norm(
                x[:, tf.newaxis, tf.newaxis], scale, self._weights(width), self._weights(width), variance,
                is_training=False,
            )[0]  # fmt: skip
            return tf.squeeze(y, [1, 2])
        return tf.nn.batch_normalization(x, self._weights(width), variance, self._weights(width), scale, 1e-3)

    def _prelu(self) -> tf.Tensor:
        x = self._pick(self._rows)
        slope = self._constant(self._random.uniform(0, 0.5, x.shape[-1]))
        spellings = [
            lambda: tf.nn.relu(x) - slope * tf.nn.relu(-x),
            lambda: tf.nn.relu(x) + (-slope) * tf.nn.relu(-x),
            lambda: tf.maximum(x, 0.0) + slope * tf.minimum(x, 0.0),
            lambda: tf.where(x > 0, x, slope * x),
            lambda: tf.where(x < 0, x * slope, x),
            lambda: tf.maximum(x, slope * x),
            lambda: tf.nn.relu(x) + slope * (x - tf.abs(x)) * 0.5,
            lambda: tf.nn.leaky_relu(x, 0.1),
        ]
        return spellings[self._choose(len(spellings))]()

    def _activation(self) -> tf.Tensor:
        functions = [
            tf.nn.relu, tf.sigmoid, tf.tanh, tf.nn.gelu, tf.nn.silu, tf.nn.softmax, tf.nn.softplus, tf.nn.elu,
            tf.nn.selu, tf.nn.softsign, tf.nn.relu6, lambda x: tf.math.log1p(tf.abs(x)),
            lambda x: tf.exp(tf.nn.log_softmax(x)), lambda x: tf.pow(1.5 + tf.tanh(x), 0.7),
            lambda x: tf.clip_by_value(x, -1.0, 0.5), lambda x: tf.sign(x) * tf.square(x) * 0.5,
            tf.sin, tf.cos, tf.atan, lambda x: tf.tan(0.7 * tf.tanh(x)), lambda x: tf.asin(0.7 * tf.sin(x)),
            lambda x: tf.acos(0.7 * tf.tanh(x)),
        ]  # fmt: skip
        return functions[self._choose(len(functions))](self._pick(self._rows))

    def _attention(self) -> tf.Tensor:
        keys, values = self._pick(self._events), self._pick(self._events)
        query = self._pick(self._rows)
        if query.shape[-1] != keys.shape[-1]:
            query = self._project(query, keys.shape[-1])
        logits = tf.matmul(query, keys, transpose_b=True) * 0.35
        masks = [
            lambda: logits,
            lambda: logits + (1 - tf.cast(self._present, tf.float32)) * -1e9,
            lambda: tf.where(self._present, logits, -1e9),
            lambda: tf.where(~self._present[tf.newaxis], tf.constant(-1e9), logits + 0.1),
        ]
        logits = masks[self._choose(len(masks))]()
        return tf.matmul(tf.nn.softmax(logits), values)

    def _by_hand(self) -> tf.Tensor:
        """Attention as sums of products over three axes."""
        keys = self._pick(self._events)
        query = self._pick(self._rows)
        if query.shape[-1] != keys.shape[-1]:
            query = self._project(query, keys.shape[-1])
        logits = tf.reduce_sum(query[:, tf.newaxis] * keys, -1)
        weights = tf.nn.softmax(logits * 0.35, axis=1)[..., tf.newaxis]
        return tf.reduce_sum(weights * self._pick(self._events), axis=1)

    def _heads(self) -> tf.Tensor:
        x, events = self._pick(self._rows), self._pick(self._events)
        query = tf.reshape(self._project(x, 8), [-1, 2, 4])
        keys = tf.reshape(self._project(events, 8), [L, 2, 4])
        weights = tf.nn.softmax(tf.einsum("nhd,lhd->hnl", query, keys) * 0.5)
        return tf.reshape(tf.einsum("hnl,lhd->nhd", weights, keys), [-1, 8])

    def _layer_norm(self) -> tf.Tensor:
        x = self._pick(self._rows)
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 0.1) * self._weights(x.shape[-1])

    def _concat(self) -> tf.Tensor:
        parts = [self._pick(self._rows) for _ in range(2 + self._choose(2))]
        if self._choose(2):
            profile = self._pick(self._profiles)
            parts.append(tf.tile(profile[tf.newaxis], [tf.shape(parts[0])[0], 1]))
        return self._project(tf.concat(parts, -1), self._width())

    def _slice(self) -> tf.Tensor:
        x = self._pick(self._rows)
        if self._choose(2) and x.shape[-1] % 2 == 0:
            return tf.split(x, 2, -1)[self._choose(2)]
        return x[:, self._choose(max(1, x.shape[-1] - 1)) :]

    def _with_user(self) -> tf.Tensor:
        x, profile = self._pick(self._rows), self._pick(self._profiles)
        if x.shape[-1] != profile.shape[-1]:
            x = self._project(x, profile.shape[-1])
        return self._combined(x, profile)

    def _with_row(self) -> tf.Tensor:
        x, y = self._pick(self._rows), self._pick(self._rows)
        if x.shape[-1] != y.shape[-1]:
            y = self._project(y, x.shape[-1])
        return self._combined(x, y)

    def _combined(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        functions = [
            lambda: x + y,
            lambda: x - y,
            lambda: tf.tanh(x) * y,
            lambda: tf.maximum(x, y),
            lambda: tf.math.squared_difference(tf.tanh(x), tf.tanh(y)),
            lambda: x / (1.5 + tf.square(tf.tanh(y))),
            lambda: tf.atan2(tf.tanh(x), 1.0 + tf.square(tf.tanh(y))),
        ]
        return functions[self._choose(len(functions))]()

    def _reduced(self) -> tf.Tensor:
        functions = [tf.reduce_sum, tf.reduce_mean, tf.reduce_max]
        x = self._pick(self._rows)
        return functions[self._choose(3)](x * (1 / x.shape[-1]), -1, keepdims=True) * self._weights(4)

    def _rank_three(self) -> tf.Tensor:
        """The attention of DIN: a small network on each pair of item and event."""
        keys = self._pick(self._events)
        query = self._pick(self._rows)
        if query.shape[-1] != keys.shape[-1]:
            query = self._project(query, keys.shape[-1])
        tiled = tf.tile(query[:, tf.newaxis], [1, L, 1])
        keys_tiled = tf.tile(keys[tf.newaxis], [tf.shape(query)[0], 1, 1])
        pairs = tf.concat([tiled, keys_tiled, tiled - keys_tiled, tiled * tf.tanh(keys_tiled)], -1)
        hidden = tf.sigmoid(tf.tensordot(pairs, self._weights(pairs.shape[-1], 4), 1))
        weights = tf.tensordot(hidden, self._weights(4, 1), 1)[..., 0]
        return tf.matmul(tf.nn.softmax(weights)[:, tf.newaxis], keys_tiled)[:, 0]

    def _control_flow(self) -> tf.Tensor | None:
        x, profile = self._pick(self._rows), self._pick(self._profiles)
        kind = self._choose(6)
        if kind == 0:
            return tf.cond(tf.reduce_sum(profile) > 0, lambda: tf.tanh(x), lambda: x * 0.5)
        if kind == 1:
            return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y) + 0.1), (0, x))[1]
        if kind == 2:
            looped = tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, tf.sin(y)), (0, profile))[1]
            self._profiles.append(looped)
        if kind == 3:
            return tf.where(tf.reduce_any(self._mask()), tf.tanh(x), self._pick(self._rows[:3])[:, :1])
        if kind in (4, 5):
            return self._over_events(x, stops=kind == 5)
        return None

    def _over_events(self, x: tf.Tensor, *, stops: bool) -> tf.Tensor:
        """A loop over as many events as the user has, or up to the first that a mask leaves out."""
        mask = self._mask()
        count = tf.reduce_sum(tf.cast(mask, tf.int32))
        kernel = self._weights(x.shape[-1], D)

        def goes_on(at: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            return (at < L) & mask[tf.minimum(at, L - 1)] if stops else at < count

        def step(at: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return at + 1, tf.tanh(0.5 * y + self._given[at])

        return tf.while_loop(goes_on, step, (0, tf.matmul(x, kernel)))[1]

    def _user_side(self) -> None:
        kind = self._choose(5)
        if kind == 0:
            self._events.append(tf.nn.relu(self._project(self._pick(self._events), self._width())))
        elif kind == 1:
            self._profiles.append(tf.reduce_mean(self._pick(self._events), 0))
        elif kind == 2:
            known = tf.boolean_mask(self._pick(self._events), self._present)
            self._profiles.append(tf.reduce_sum(known, 0) / L)
        elif kind == 3:
            self._events.append(self._along_events(self._pick(self._events)))
        else:
            profile = self._pick(self._profiles)
            self._profiles.append(tf.tanh(self._project(profile[tf.newaxis], self._width())[0]))

    def _along_events(self, events: tf.Tensor) -> tf.Tensor:
        """What a program knows of a user in the forms of an encoder only."""
        width = events.shape[-1]
        forms = [
            lambda: tf.nn.conv1d(events[tf.newaxis], self._weights(3, width, width), 1, "SAME")[0],
            lambda: tf.nn.max_pool1d(events[tf.newaxis], 2, 1, "SAME")[0],
            lambda: tf.cumsum(events, reverse=True) / L,
            lambda: tf.sort(events, axis=0),
        ]
        return forms[self._choose(len(forms))]()

    def _dot_product(self) -> tf.Tensor:
        x, profile = self._pick(self._rows), self._pick(self._profiles)
        if x.shape[-1] != profile.shape[-1]:
            x = self._project(x, profile.shape[-1])
        products = [
            lambda: tf.linalg.matvec(x, profile)[:, tf.newaxis],
            lambda: tf.reduce_sum(x * profile, -1, keepdims=True),
            lambda: tf.transpose(tf.matmul(profile[tf.newaxis], x, transpose_b=True)),
            lambda: tf.einsum("nd,d->n", x, profile)[:, tf.newaxis],
            lambda: tf.matmul(x, profile[:, tf.newaxis]),
        ]
        return tf.tanh(products[self._choose(len(products))]()) * self._weights(4)

    def _over_batch(self) -> tf.Tensor:
        """The user once for each item, as Keras has it, and its events under a mask."""
        x = self._pick(self._rows)
        n = x.shape[0]
        events = self._repeated(self._pick(self._events), n)
        mask = self._repeated(self._mask(), n)
        if self._choose(2):
            events = tf.nn.relu(tf.tensordot(events, self._weights(events.shape[-1], self._width()), 1))
        there = tf.cast(mask, tf.float32)[..., tf.newaxis]
        if x.shape[-1] != events.shape[-1]:
            x = self._project(x, events.shape[-1])
        kind = self._choose(4)
        if kind == 0:
            pooled = tf.math.divide_no_nan(tf.reduce_sum(events * there, 1), tf.reduce_sum(there, 1))
        elif kind == 1:
            pooled = tf.reduce_max(tf.where(mask[..., tf.newaxis], events, -2.0), 1)
        else:
            logits = tf.einsum("nle,ne->nl", events, x) * 0.35
            masked = tf.where(mask, logits, -1e9) if kind == 2 else logits - 1e9 * (1 - there[..., 0])
            pooled = tf.einsum("nl,nle->ne", tf.nn.softmax(masked), events)
        return pooled * x if self._choose(2) else self._project(tf.concat([pooled, x], -1), self._width())

    def _one_more_event(self) -> tf.Tensor:
        """A transformer's layer over the user's events and the item."""
        events, x = self._pick(self._events), self._pick(self._rows)
        if x.shape[-1] != events.shape[-1]:
            x = self._project(x, events.shape[-1])
        rows = tf.concat([self._repeated(events, x.shape[0]), x[:, tf.newaxis]], 1)
        mean, variance = tf.nn.moments(rows, [-1], keepdims=True)
        normed = (rows - mean) * tf.math.rsqrt(variance + 0.1)
        query, key, value = (tf.tensordot(normed, self._weights(rows.shape[-1], 4), 1) for _ in "qkv")
        there = tf.concat([self._mask(), [True]], 0)
        logits = tf.where(there, tf.matmul(query, key, transpose_b=True) * 0.5, -1e9)
        attended = tf.nn.relu(tf.matmul(tf.nn.softmax(logits), value)) + tf.tanh(value)
        return attended[:, -1] if self._choose(2) else tf.reduce_mean(attended, 1)

    def _repeated(self, x: tf.Tensor, n: int) -> tf.Tensor:
        """A tensor of the user [...] as [n, ...]."""
        ways = [
            lambda: tf.repeat(x[tf.newaxis], n, axis=0),
            lambda: tf.tile(x[tf.newaxis], [n, *[1] * x.shape.rank]),
            lambda: tf.broadcast_to(x, [n, *x.shape]),
            lambda: tf.gather(x[tf.newaxis], tf.zeros([n], tf.int32)),
            lambda: tf.stack([x] * n),
        ]
        return ways[self._choose(len(ways))]()

    def _mask(self) -> tf.Tensor:
        """Bool [L] of the user as it came: computed values near a threshold would be a matter of rounding."""
        masks = [
            lambda: self._present,
            lambda: ~self._present,
            lambda: tf.equal(self._types, 1),
            lambda: (self._types < 3) & self._present,
            lambda: (self._types >= 2) | self._present,
            lambda: tf.cast(self._types, tf.bool),
            lambda: tf.reduce_all(self._given != 0, -1),
            lambda: self._given[:, 0] > self._given[:, 1],
        ]
        return masks[self._choose(len(masks))]()

    def _compared(self) -> tf.Tensor:
        """Comparisons of items, in functions that have no steps."""
        x, y = self._pick(self._rows), self._pick(self._rows)
        if x.shape[-1] != y.shape[-1]:
            y = self._project(y, x.shape[-1])
        functions = [
            lambda: tf.where(x > y, x - y, tf.zeros_like(x)),
            lambda: tf.cast(x <= y, tf.float32) * (y - x),
            lambda: tf.where((x > 0) & (y > 0), tf.minimum(x, y), 0.0),
            lambda: tf.where(tf.logical_not((x < 0) | (y < 0)), tf.minimum(x, y), 0.0),
            lambda: tf.where(tf.reduce_any(x > y, -1, keepdims=True), tf.nn.relu(x - y), 0.0),
        ]
        return functions[self._choose(len(functions))]()

    def _noise(self) -> tf.Tensor:
        """Operations that change nothing but shapes."""
        x = self._pick(self._rows)
        ways = [
            lambda: tf.identity(
                tf.reshape(tf.nn.relu(tf.reshape(x, [-1, 1, x.shape[-1]])), [-1, x.shape[-1]])
            ),
            lambda: tf.squeeze(tf.tanh(tf.expand_dims(x, 1)), 1),
            lambda: tf.transpose(tf.sin(tf.transpose(x))),
            lambda: tf.concat(tf.unstack(x, axis=1)[:: 1 + self._choose(2)][:4] * 4, 0)[
                : x.shape[0], tf.newaxis
            ],
            lambda: tf.stack(tf.unstack(x, axis=1)[::-1], 1),
            lambda: tf.stop_gradient(x[:, ::-1]),
        ]
        return ways[self._choose(len(ways))]()

    def _constant_rows(self) -> tf.Tensor:
        x = self._pick(self._rows)
        if self._choose(2):
            return tf.concat([x, tf.ones_like(x[:, :1])], -1)
        return x * tf.ones([x.shape[0], 1]) * 0.5


def _arithmetic(graph: Any) -> list[Any]:
    """Operations that compute: constants, variables and shapes do not count."""
    ignored = {
        "Const",
        "Placeholder",
        "ReadVariableOp",
        "Identity",
        "Shape",
        "StridedSlice",
        "Pack",
        "ResourceGather",
    }
    return [operation for operation in graph.get_operations() if operation.type not in ignored]
