"""Odd cases of `score`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from keras import layers

from zoo.odd import ACCEPTED, E, N, Tensors, Tiny, answered, odd, refused

# What comes back is no tensor of scores.


@odd(refused(r"\bscore\b", "numpy|array"))
class ScoreIsNumpy(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return np.zeros(int(item_embs.shape[0]), np.float32)


@odd(refused(r"\bscore\b", "numpy"))
class ScoreCallsNumpy(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return item_embs.numpy() @ user_state["user"].numpy()


@odd(refused(r"\bscore\b", "numpy"))
class ScoreGoesThroughNumpyFunctions(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return np.dot(np.asarray(item_embs), np.asarray(user_state["user"]))


@odd(refused(r"\bscore\b", "dict"))
class ScoreIsDict(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return {"click": self.dot(user_state, item_embs), "buy": self.dot(user_state, item_embs)}


@odd(refused(r"\bscore\b", "tuple|list"))
class ScoreIsTuple(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, item_embs), item_embs


@odd(refused(r"\bscore\b", "None"))
class ScoreReturnsNothing(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        self.dot(user_state, item_embs)


@odd(refused(r"\bscore\b", r"\[n\]|\(128, 1\)"))
class ScoreIsColumn(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, item_embs)[:, tf.newaxis]


@odd(refused(r"\bscore\b", r"\[n\]|\(\)"))
class ScoreIsScalar(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.reduce_mean(self.dot(user_state, item_embs))


@odd(refused(r"\bscore\b", "string"))
class ScoreIsString(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.strings.as_string(self.dot(user_state, item_embs))


@odd(refused(r"\bscore\b", "complex"))
class ScoreIsComplex(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.cast(self.dot(user_state, item_embs), tf.complex64)


@odd(ACCEPTED)
class ScoreIsInteger(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.cast(10 * self.dot(user_state, item_embs), tf.int64)


@odd(ACCEPTED)
class ScoreIsFloat64(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.linalg.matvec(tf.cast(item_embs, tf.float64), tf.cast(user_state["user"], tf.float64))


@odd(refused(r"\bscore\b", "nan"))
class ScoreIsNaN(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, item_embs) * tf.math.log(-1.0)


@odd(refused(r"\bscore\b", "sample users", "is not in"))
class ScoreHasNoRowForMadeUpUsers(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        row = tf.gather(tf.ones([E]), tf.cast(tf.reduce_sum(user_state["user"] ** 2), tf.int32) + E)
        return self.dot(user_state, item_embs) * row


@odd(ACCEPTED)
class ScoreIsNaNForSomeItems(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.math.log(self.dot(user_state, item_embs) + 8.0)


@odd(answered(r"\bscore\b", "item"))
class ScoreIgnoresTheItem(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.reduce_sum(user_state["user"]) + tf.zeros([item_embs.shape[0]])


@odd(answered(r"\bscore\b", "user"))
class ScoreIgnoresTheUser(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.reduce_sum(item_embs, axis=-1)


@odd(ACCEPTED)
class ScoreBranchesInPython(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        if tf.reduce_sum(user_state["user"]) > 0:
            return self.dot(user_state, item_embs)
        return -self.dot(user_state, item_embs)


# Errors of the model's own code.


@odd(refused(r"\bscore\b", "ValueError|prices", r"\[128, 8\]|\(128, 8\)"))
class ScoreRaises(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        raise ValueError("prices were not loaded")


@odd(refused(r"\bscore\b", r"\[128, 8\]|\(128, 8\)"))
class ScoreMultipliesWrongShapes(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.matmul(item_embs, tf.ones([E + 1, 1]))[:, 0]


@odd(refused(r"\bscore\b", "usr", "KeyError|user_state"))
class ScoreNamesAnotherState(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.linalg.matvec(item_embs, user_state["usr"])


@odd(refused(r"\bscore\b", "variable"))
class ScoreMakesLayers(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return layers.Dense(1)(item_embs * user_state["user"])[:, 0]


@odd(refused(r"\bscore\b", "predict"))
class ScoreCallsPredict(Tiny):
    def build(self) -> None:
        import keras

        self.network = keras.Sequential([keras.Input([E]), layers.Dense(1)])

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.network.predict(item_embs * user_state["user"])[:, 0]


# State, randomness, items that meet.


@odd(refused(r"\bscore\b", "dropout|random", "training"))
class ScoreDropsOut(Tiny):
    def build(self) -> None:
        self.dropout = layers.Dropout(0.5)

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, self.dropout(item_embs, training=True))


@odd(refused(r"\bscore\b", "random"))
class ScoreIsNoisy(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, item_embs) + tf.random.normal([item_embs.shape[0]])


@odd(refused(r"\bscore\b", "batch|moving|state", "training"))
class ScoreTrainsItsBatchNorm(Tiny):
    def build(self) -> None:
        self.norm = layers.BatchNormalization()
        self.norm.build((None, E))

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, self.norm(item_embs, training=True))


@odd(refused(r"\bscore\b", "state|assign|variable"))
class ScoreCounts(Tiny):
    def build(self) -> None:
        self.calls = tf.Variable(0.0)

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, item_embs) * 0.0 + self.calls.assign_add(1.0)


@odd(refused(r"\bscore\b", "other items|tile|mixes"))
class ScoreIsSoftmaxOverItems(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.nn.softmax(self.dot(user_state, item_embs))


@odd(refused(r"\bscore\b", "other items|tile|mixes"))
class ScoreIsRelativeToTheBest(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        scores = self.dot(user_state, item_embs)
        return scores / tf.reduce_max(tf.abs(scores))


@odd(refused(r"\bscore\b", "other items|tile|mixes"))
class ScoreSortsItems(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.sort(self.dot(user_state, item_embs))


@odd(refused(r"\bscore\b", "py_function|Python", "server"))
class ScoreCallsPython(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        scores = tf.py_function(tf.linalg.matvec, [item_embs, user_state["user"]], tf.float32)
        return tf.ensure_shape(scores, [item_embs.shape[0]])


@odd(refused(r"\bscore\b", "numpy_function|Python", "server"))
class ScoreCallsNumpyFunction(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        scores = tf.numpy_function(np.dot, [item_embs, user_state["user"]], tf.float32)
        return tf.ensure_shape(scores, [item_embs.shape[0]])


# Unusual, and right.


@odd(ACCEPTED)
class ScoreHasRecurrence(Tiny):
    def build(self) -> None:
        self.recurrent = layers.GRU(4)
        self.recurrent.build((None, 2, E))

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        pair = tf.stack([tf.broadcast_to(user_state["user"], tf.shape(item_embs)), item_embs], axis=1)
        return tf.reduce_sum(self.recurrent(pair), axis=-1)


@odd(ACCEPTED)
class ScoreLoopsOverItems(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.map_fn(lambda item: tf.reduce_sum(item * user_state["user"]), item_embs)


@odd(ACCEPTED)
class ScoreIsVectorizedMap(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.vectorized_map(lambda item: tf.reduce_sum(item * user_state["user"]), item_embs)


@odd(ACCEPTED)
class ScoreIsJitted(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.function(self.dot, jit_compile=True)(user_state, item_embs)


@odd(ACCEPTED)
class ScoreChecksItself(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        tf.debugging.assert_all_finite(item_embs, "items are finite")
        return self.dot(user_state, item_embs)


@odd(ACCEPTED)
class ScoreReadsTable(Tiny):
    """A table of numbers by a bucket that is computed of the item."""

    def build(self) -> None:
        self.bias = tf.Variable(np.linspace(-1, 1, 10).astype(np.float32))

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        bucket = tf.cast(tf.clip_by_value(5 + item_embs[:, 0] * 2, 0, 9), tf.int32)
        return self.dot(user_state, item_embs) + tf.gather(self.bias, bucket)


@odd(ACCEPTED)
class ScoreReadsHashTable(Tiny):
    def build(self) -> None:
        keys = tf.range(10, dtype=tf.int64)
        initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.cast(keys, tf.float32))
        self.bias = tf.lookup.StaticHashTable(initializer, 0.0)

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        bucket = tf.cast(tf.abs(item_embs[:, 0]) * 3, tf.int64)
        return self.dot(user_state, item_embs) + self.bias.lookup(bucket)


@odd(ACCEPTED)
class ScoreLooksUpItsItemState(Tiny):
    """A brand by its id: an IntegerLookup that runs for each item."""

    item_state: ClassVar[Any] = {"brand": tf.TensorSpec([], tf.int64)}

    def build(self) -> None:
        self.lookup = layers.IntegerLookup(vocabulary=[300, 100, 200])
        self.bias = tf.Variable(tf.range(4.0))

    def score(self, user_state: Tensors, item_embs: Any, item_state: Any) -> Any:
        return self.dot(user_state, item_embs) + tf.gather(self.bias, self.lookup(item_state["brand"]))

    @classmethod
    def prepare(cls, run: Path) -> None:
        np.save(run / "embeddings/item_state_brand.npy", np.full(N, 200, np.int64))


@odd(refused(r"\bscore\b", "lookup table of strings", "behind the lookup layer", "item state"))
class ScoreLooksUpStrings(Tiny):
    """A country of the user by its name, once for each item."""

    def build(self) -> None:
        self.lookup = layers.StringLookup(vocabulary=["de", "fr"])
        self.bias = tf.Variable(tf.range(3.0))

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        codes = self.lookup(tf.strings.as_string(tf.cast(item_embs[:, 0], tf.int32)))
        return self.dot(user_state, item_embs) + tf.gather(self.bias, codes)


@odd(refused("item_state brand", "string", "behind the lookup layer"))
class ItemStateIsString(Tiny):
    item_state: ClassVar[Any] = {"brand": tf.TensorSpec([], tf.string)}

    def score(self, user_state: Tensors, item_embs: Any, item_state: Any) -> Any:
        return self.dot(user_state, item_embs)


@odd(refused(r"\bscore\b", "--max-constant-bytes"))
class ScoreHasLargeKernel(Tiny):
    options: ClassVar[dict[str, Any]] = {"max_constant_bytes": 1_000}

    def build(self) -> None:
        self.kernel = tf.Variable(np.ones([E, N], np.float32) * 0.01, name="kernel")

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, item_embs) + tf.reduce_sum(tf.tanh(item_embs @ self.kernel), axis=-1)


@odd(ACCEPTED)
class ScoreAssertsAndPrints(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        tf.debugging.assert_less(tf.abs(item_embs), 100.0)
        scores = self.dot(user_state, item_embs)
        tf.print("scores", tf.shape(scores), output_stream="file:///dev/null")
        return scores


@odd(refused("score", "assertion failed: .*no such item"))
class ScoreFailsItsAssertion(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        tf.debugging.assert_less(item_embs[:, 0], 0.0, "no such item")
        return self.dot(user_state, item_embs)


@odd(refused(r"\bscore\b", "shape", r"odd_scores\.py, line", r"\[128, 8\]"))
class ScoreGrowsInALoop(Tiny):
    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        for _ in tf.range(tf.cast(user_state["user"][0], tf.int32)):
            item_embs = tf.concat([item_embs, item_embs], 0)
        return self.dot(user_state, item_embs)
