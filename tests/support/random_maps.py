"""Random scorers of maps: over the items of a tile, or over the user's events for all items at once.

A round reads its own element, others' elements, constants by its number, or what the round before made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# The next choice: an integer in [0, n).
Choose = Callable[[int], int]
Each = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

L, D = 3, 4


class RandomMaps:
    """A score of user and item that is drawn when it is traced.

    The user's state: `events` [L, D], `taste` [D].
    """

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._random = np.random.default_rng(choose(2**16))

    def __call__(self, user: Any, item: tf.Tensor) -> tf.Tensor:
        self._user, self._item = user, item
        scores = [tf.linalg.matvec(item, user["taste"]) * 0.3]
        for _ in range(1 + self._choose(2)):
            scores.append(self._over_items() if self._choose(2) else self._over_events())
        return tf.add_n(scores)

    def _over_items(self) -> tf.Tensor:
        n = self._item.shape[0]
        mapped = self._map(self._item, self._body(self._item, [D], depth=0))
        return tf.reduce_sum(tf.tanh(tf.reshape(mapped, [n, -1])), 1)

    def _over_events(self) -> tf.Tensor:
        """The element of a round is an event times each item, [n, D]."""
        n = self._item.shape[0]
        elements = self._user["events"][:, tf.newaxis] * self._item
        mapped = self._map(elements, self._body(elements, [n, D], depth=0))
        summed = tf.reduce_sum(tf.tanh(mapped) * _along_first(self._weights(L), mapped), 0)
        return tf.reduce_sum(tf.reshape(summed, [n, -1]), 1)

    def _weights(self, *shape: int) -> tf.Tensor:
        return tf.constant(self._random.normal(size=shape).astype(np.float32))

    def _body(self, elements: tf.Tensor, shape: list[int], depth: int) -> Each:
        """(element, its place) -> as large a tensor."""
        parts = [self._part(elements, depth) for _ in range(1 + self._choose(3))]

        def each(element: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            x = element
            for part in parts:
                x = tf.ensure_shape(part(x, place), shape)
            return x

        return each

    def _part(self, elements: tf.Tensor, depth: int) -> Each:
        m, taste = elements.shape[0], self._user["taste"]
        weights, table, rows = self._weights(D), self._weights(m), self._weights(m, D)
        integers = tf.constant(self._random.integers(0, m, m).astype(np.int32))
        k = self._choose(m)
        parts: list[Each] = [
            lambda x, i: tf.tanh(x * weights + 0.1),
            lambda x, i: x * table[i] + rows[i],
            lambda x, i: x * tf.cast(i + 1, tf.float32) / m,
            lambda x, i: x + tf.gather(rows, (i + k) % m),
            lambda x, i: x + tf.nn.softmax(x * taste),
            lambda x, i: x + tf.gather(elements, (i + k) % m),
            lambda x, i: x - 0.5 * elements[m - 1 - i],
            lambda x, i: x + tf.reverse(elements, [0])[i] * weights,
            lambda x, i: x + tf.gather(elements, integers[i]),
            lambda x, i: x * elements[tf.minimum(i + 1, m - 1)],
            lambda x, i: x + elements[i - 1] * 0.5,
            lambda x, i: x + elements[i - k],
            lambda x, i: x + tf.cond(i > 0, lambda: elements[i - 1], lambda: tf.zeros_like(x)),
            lambda x, i: x + tf.cond(i < k, lambda: elements[i + 1], lambda: x * 0.5),
            lambda x, i: x + tf.reduce_sum(elements[: i + 1], 0) / m,
            lambda x, i: x + tf.reduce_sum(elements[i:], 0) / m,
            lambda x, i: x + tf.reduce_sum(elements[tf.maximum(i - 1, 0) : i + 1], 0),
            lambda x, i: x + tf.reduce_sum(elements[i : i + 1], 0),
            lambda x, i: x + tf.reduce_sum(elements[i : i + 2], 0),
            lambda x, i: x + tf.reduce_sum(elements[i - k : i - k + 1], 0),
            lambda x, i: x + tf.reduce_sum(elements[m - 1 - i : m - i], 0),
            lambda x, i: x + tf.reduce_sum(elements[i::2], 0),
            lambda x, i: x + tf.reduce_sum(elements[i::-1], 0) / m,
            lambda x, i: x + tf.slice(elements, [(i * 2) % m, *[0] * x.shape.rank], [1, *x.shape])[0],
            lambda x, i: x + elements[i][..., i % D, tf.newaxis],
            lambda x, i: x * tf.one_hot(i, m)[k] + 0.3 * x,
            lambda x, i: x + tf.roll(elements, 1, 0)[i],
            lambda x, i: x + tf.concat([elements[1:], elements[:1]], 0)[i],
            lambda x, i: tf.cond(i % 2 == 0, lambda: tf.exp(-x * x), lambda: x * weights),
            lambda x, i: tf.cond(taste[0] > 0, lambda: tf.sin(x), lambda: x * table[i]),
            lambda x, i: tf.cond(tf.reduce_sum(x) > 0, lambda: x * weights, lambda: x + taste),
            lambda x, i: tf.cond(
                (i > 1) & (tf.reduce_sum(x) > 0), lambda: elements[i - 2] * taste, lambda: x + 1.0
            ),
            lambda x, i: tf.switch_case(i % 3, [lambda: x, lambda: -x * weights, lambda: tf.cos(x)]),
            lambda x, i: x + tf.where(tf.range(D) < i, taste, weights),
            lambda x, i: x + tf.sequence_mask(i, D, tf.float32) * 0.5,
            lambda x, i: x * tf.reduce_mean(elements, 0),
            lambda x, i: tf.while_loop(lambda j, y: j < 3, lambda j, y: (j + 1, tf.sin(y) + taste), (0, x))[
                1
            ],
            lambda x, i: tf.while_loop(lambda j, y: j < i, lambda j, y: (j + 1, tf.sin(y) * 0.9), (0, x))[1],
            lambda x, i: tf.stack([x, x * weights])[i % 2],
            lambda x, i: x + tf.cumsum(x, axis=-1) * 0.2,
            lambda x, i: tf.reverse(x, [-1]),
            lambda x, i: tf.roll(x, i, -1),
            lambda x, i: tf.gather(x, (tf.range(D) + i) % D, axis=-1),
            lambda x, i: tf.sort(x, axis=-1) + x,
        ]
        if depth == 0:
            events = self._user["events"]
            parts += [self._inner(depth)] * 2
            parts.append(lambda x, i: x + tf.reduce_sum(tf.map_fn(lambda e: tf.tanh(e * x), events), 0) / L)
        return parts[self._choose(len(parts))]

    def _inner(self, depth: int) -> Each:
        """A map within a map."""
        events = self._user["events"]
        choose = self._choose

        def each(x: tf.Tensor, i: tf.Tensor) -> tf.Tensor:
            elements = tf.stack([x * event for event in tf.unstack(events)])
            mapped = self._map(elements, self._body(elements, list(x.shape), depth + 1))
            return x + tf.reduce_sum(mapped * _along_first(tf.range(1.0, L + 1), mapped), 0) / 9

        return each if choose(2) else (lambda x, i: each(x, i) * tf.cast(i + 1, tf.float32))

    def _map(self, elements: tf.Tensor, body: Each) -> tf.Tensor:
        m = elements.shape[0]
        shape = elements.shape[1:]
        spec = tf.TensorSpec(shape, tf.float32)
        places = tf.range(m)

        def structured(parts: dict[str, Any]) -> dict[str, Any]:
            found = body(parts["x"], parts["i"])
            return {"y": found, "z": (parts["i"], found * 0.5)}

        def with_structure() -> tf.Tensor:
            signature = {"y": spec, "z": (tf.TensorSpec([], tf.int32), spec)}
            found = tf.map_fn(structured, {"x": elements, "i": places}, fn_output_signature=signature)
            return found["y"] + found["z"][1] * _along_first(tf.cast(found["z"][0], tf.float32) / m, elements)

        ways = [
            lambda: tf.map_fn(lambda parts: body(*parts), (elements, places), fn_output_signature=spec),
            lambda: tf.map_fn(lambda i: body(elements[i], i), places, fn_output_signature=spec),
            lambda: tf.vectorized_map(lambda parts: body(*parts), (elements, places)),
            with_structure,
            lambda: self._loop(elements, body),
            lambda: self._loop(elements, body),
            lambda: self._loop(elements, body),
            lambda: self._carried(elements, body),
            lambda: tf.scan(lambda _, parts: body(*parts), (elements, places), tf.zeros_like(elements[0])),
            lambda: tf.scan(
                lambda before, parts: body(*parts) + before * 0.5,
                (elements, places),
                tf.zeros_like(elements[0]),
                reverse=bool(self._random.integers(2)),
            ),
        ]
        return ways[self._choose(len(ways))]()

    def _loop(self, elements: tf.Tensor, body: Each) -> tf.Tensor:
        """A loop that reads and writes at places of its own."""
        m = elements.shape[0]
        order = self._order(m)
        write = order if self._choose(2) else self._order(m)
        read = self._reader(elements)
        is_list = self._choose(2)
        start, step = [(0, 1), (m - 1, -1)][self._choose(2)]
        given = tf.TensorArray(tf.float32, m, clear_after_read=False).unstack(elements) if is_list else None

        def once(i: tf.Tensor, made: Any) -> tuple[Any, Any]:
            place = order(i)
            element = read(place) if given is None else given.read(place)
            return i + step, made.write(write(i), body(element, place))

        begin = (tf.constant(start), tf.TensorArray(tf.float32, m, element_shape=elements.shape[1:]))
        found = tf.while_loop(lambda i, _: (i >= 0) & (i < m), once, begin)[1].stack()
        return tf.ensure_shape(found, elements.shape)

    def _order(self, m: int) -> Callable[[tf.Tensor], tf.Tensor]:
        permutation = tf.constant(self._random.permutation(m).astype(np.int32))
        shift = int(self._random.integers(m))
        orders = [
            lambda i: i,
            lambda i: m - 1 - i,
            lambda i: permutation[i],
            lambda i: tf.gather(permutation, i),
            lambda i: (i + shift) % m,
        ]
        return orders[self._choose(len(orders))]

    def _reader(self, elements: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        m, rest = elements.shape[0], elements.shape[1:]
        readers = [
            lambda i: elements[i],
            lambda i: tf.gather(elements, i),
            lambda i: elements[i : i + 1][0],
            lambda i: tf.slice(elements, [i, *[0] * len(rest)], [1, *rest])[0],
            lambda i: elements[i - m],
            lambda i: tf.gather_nd(elements, [i]),
        ]
        return readers[self._choose(len(readers))]

    def _carried(self, elements: tf.Tensor, body: Each) -> tf.Tensor:
        """Beside its list a loop has the last result, a sum, and the sum of its own places."""
        m = elements.shape[0]
        read, write = self._reader(elements), self._order(m)
        reads_sum, kind = self._choose(2), self._choose(3)

        def once(i: tf.Tensor, made: Any, last: tf.Tensor, total: tf.Tensor, places: tf.Tensor) -> Any:
            found = body(read(i), i)
            if reads_sum:
                found += 0.1 * total
            if kind == 0:
                found += 0.1 * tf.cast(places, tf.float32)
            return i + 1, made.write(write(i), found), found, total + found * 0.2, places + i

        zeros = tf.zeros_like(elements[0])
        begin = (0, tf.TensorArray(tf.float32, m, element_shape=elements.shape[1:]), zeros, zeros, 0)
        _, made, last, total, places = tf.while_loop(lambda i, *_: i < m, once, begin)
        found = tf.ensure_shape(made.stack(), elements.shape)
        if kind == 1:
            found += last * tf.cast(places, tf.float32) / 10
        return found + total * 0.1 if kind == 2 else found


def _along_first(numbers: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Numbers [m] as they stand beside `x` [m, ...]."""
    return tf.reshape(numbers, [-1, *[1] * (x.shape.rank - 1)])
