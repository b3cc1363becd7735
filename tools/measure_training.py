#!/usr/bin/env python3
"""measure_training.py [ITEMS ...]: time of a training step with and without the update of the item table.

The attention model, resident inputs, interleaved rounds; by default 20,000 and 1,000,000 items.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import tensorflow as tf

from nann.training import ReferenceModel, TrainOptions, load_source
from nann.training._features import ItemFeatures, UserFeatures, table_rows
from nann.training._optimizer import RowwiseAdamW
from nann.training._sampling import SequenceSampler
from nann.training._step import TrainStep, tensors_of

ROUNDS, STEPS = 7, 8


def steps_of(items: int) -> tuple[dict[str, TrainStep], list[Any]]:
    """Steps that differ in what they update, and batches that are made beforehand."""
    dataset = load_source(f"synthetic:items={items},users=3000,events=24,seed=0")
    options = TrainOptions().resolved(dataset)
    sampler = SequenceSampler(
        dataset,
        batch_size=options.batch_size,
        negatives=options.negatives,
        popularity_power=options.popularity_power,
        sequence_length=50,
        seed=0,
    )
    rows = table_rows(dataset)
    steps = {}
    for name in ("all", "without the item table"):
        model = ReferenceModel.create(rows)
        if name != "all":
            model.item_embedding.trainable = False
        optimizer = RowwiseAdamW(model.trainable_variables, weight_decay=1e-4, clip_norm=5.0)
        steps[name] = TrainStep(model, optimizer, options)
    users, item_side = UserFeatures(dataset, model.user_features), ItemFeatures(dataset, model)
    return steps, [tensors_of(users, item_side, sampler.batch(step)) for step in range(STEPS)]


def seconds(step: TrainStep, batches: list[Any]) -> float:
    started = time.perf_counter()
    for number, batch in enumerate(batches):
        loss: tf.Tensor = step([batch], rate=1e-3, step=number)
    loss.numpy()
    return (time.perf_counter() - started) / len(batches)


def main() -> None:
    for items in map(int, sys.argv[1:] or ("20000", "1000000")):
        steps, batches = steps_of(items)
        for step in steps.values():
            seconds(step, batches)
        rounds = [{name: seconds(step, batches) for name, step in steps.items()} for _ in range(ROUNDS)]
        medians = {name: statistics.median(each[name] for each in rounds) for name in steps}
        ratios = [each["all"] / each["without the item table"] for each in rounds]
        milliseconds = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in medians.items())
        print(
            f"{items:,} items: {milliseconds} a step, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
