"""describe_library.py LIBRARY MODEL: what an op library registers and how it answers, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_registry

from support.tiny_model import E, L

BEAMS = [20, 30, 30, 30, 30, 10]


def ops(module: Any) -> dict[str, list[str]]:
    """Op -> its definition with all inputs, outputs and attributes, and its documentation."""
    # The module has Nann_BeamSearch for the op Nann>BeamSearch and nann_beam_search for the function.
    found = {}
    for name in dir(module):
        if name.startswith("Nann_"):
            op = name.replace("_", ">", 1)
            found[op] = [str(op_def_registry.get(op)), getattr(module, name).__doc__ or ""]
    return found


def registered_kernels() -> list[str]:
    return sorted(
        str(kernel) for kernel in kernels.get_all_registered_kernels().kernel if "Nann>" in kernel.op
    )


def answers(model: str) -> dict[str, list[Any]]:
    """Of the signature that the fused walk answers, for four users."""
    users = tf.constant(np.random.default_rng(1).normal(size=(4, L * E)), tf.float32)
    level_topn, exclude_ids = tf.constant([BEAMS] * 4), tf.constant([[3], [10], [-1], [17]], tf.int64)
    loaded = tf.saved_model.load(model)  # Owns the index: it must outlive the call.
    found = loaded.signatures["retrieve"](comm_seq=users, level_topn=level_topn, exclude_ids=exclude_ids)
    return {name: tensor.numpy().tolist() for name, tensor in found.items()}


def main() -> None:
    library, model = sys.argv[1:]
    module = tf.load_op_library(library)
    print(json.dumps({"ops": ops(module), "kernels": registered_kernels(), "answers": answers(model)}))


if __name__ == "__main__":
    main()
