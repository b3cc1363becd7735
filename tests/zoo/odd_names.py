"""Models whose features and states have names that are no identifiers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from zoo.odd import E, L, Tensors, Tiny, answered, odd

FEATURE_NAMES = ("two words", "with-dash", "with:colon", "with.dot", "1st", "_hidden", "self", "点击")
STATE_NAMES = ("user-vector", "user vector", "user/vector", "user.vector", "_user", "2nd", "self")


def _feature_named(name: str) -> type[Tiny]:
    def embed_user(self: Tiny, features: Tensors) -> Any:
        return {"user": self.total(features[name])}

    spec = {name: tf.TensorSpec([L], tf.int64)}
    content = {"user_features": spec, "vocabularies": (name,), "embed_user": embed_user}
    return type(f"FeatureNamed[{name}]", (Tiny,), content)


def _state_named(name: str) -> type[Tiny]:
    def embed_user(self: Tiny, features: Tensors) -> Any:
        return {name: self.total(features["item_ids"])}

    def score(self: Tiny, user_state: Tensors, item_embs: Any) -> Any:
        return tf.linalg.matvec(item_embs, user_state[name])

    spec = {name: tf.TensorSpec([E], tf.float32)}
    content = {"user_state": spec, "embed_user": embed_user, "score": score}
    return type(f"StateNamed[{name}]", (Tiny,), content)


for _name in FEATURE_NAMES:
    odd(answered("user_features", f"'{_name}'|{_name}"))(_feature_named(_name))
for _name in STATE_NAMES:
    odd(answered("user_state", f"'{_name}'|{_name}"))(_state_named(_name))
