#!/usr/bin/env python3
"""next_item_recall.py OUT [SOURCE]: recall of the next item of the shipped models, with the defaults.

Leave one out, ranked among all items by the model itself, without the items of the user's history. Each model
is trained with several seeds; the interval is a 95 % bootstrap over users of their mean hits. Writes
OUT/recall.json. A run that was stopped goes on: what is done is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.run import load_model
from nann.training import Dataset, TrainOptions, embed, prepare_data, read_dataset, train
from nann.training.metrics import mean_interval
from nann.training.ranking import ItemScorer, states_before

MODELS = ("two-tower", "mixture", "attention")
CUTOFFS = (10, 50)

# For each user the number of items that are ranked before the held-out one.
Places = npt.NDArray[np.int64]


def places_of(dataset: Dataset, scores: Any) -> Places:
    """scores: a function of the number of a test example -> float [N]."""
    places = []
    for number, (user, cut) in enumerate(dataset.split.test.pairs()):
        of_user = np.array(scores(number), np.float64)
        target = int(dataset.events[dataset.row_splits[user] + cut]) - 1
        own = of_user[target]
        of_user[dataset.before(user, cut) - 1] = -np.inf
        of_user[target] = -np.inf
        # Equal scores count as better: a model that scores all items alike finds nothing.
        places.append(int((of_user >= own).sum()))
    return np.array(places)


def trained_places(folder: Path, data: Path, model: str, seed: int) -> Places:
    """Of one model and seed; read from FOLDER/places.npy when they are there."""
    file = folder / "places.npy"
    if file.is_file():
        return np.asarray(np.load(file))
    dataset = read_dataset(data)
    train(data, folder, TrainOptions(seed=seed), model=model)
    embed(folder)
    trained = load_model(folder)
    scorer = ItemScorer(trained, np.load(folder / "embeddings" / "item_embs.npy"))
    states = states_before(trained, dataset, dataset.split.test)
    everything = np.arange(dataset.num_items)
    places = places_of(dataset, lambda _: scorer.scores(next(states), everything))
    np.save(file, places)
    return places


def figures(name: str, of_seeds: list[Places]) -> dict[str, Any]:
    """Recall of each cutoff: each seed's, their mean, and its interval."""
    found: dict[str, Any] = {"model": name, "users": len(of_seeds[0])}
    for k in CUTOFFS:
        hits = np.stack([places < k for places in of_seeds]).astype(np.float64)
        mean, low, high = mean_interval(hits.mean(axis=0))
        seeds = [round(float(each), 4) for each in hits.mean(axis=1)]
        found[f"recall@{k}"] = {
            "mean": round(mean, 4),
            "interval": [round(low, 4), round(high, 4)],
            "seeds": seeds,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("source", nargs="?", default="recbole:ml-100k")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    data = options.out / "data"
    if not data.exists():
        prepare_data(options.source, data)
    dataset = read_dataset(data)
    popularity = dataset.popularity(1)[1:]
    results = [figures("popularity", [places_of(dataset, lambda _: popularity)])]
    places: dict[str, list[Places]] = {model: [] for model in options.models}
    for seed in range(options.seeds):
        for model in options.models:
            places[model].append(trained_places(options.out / f"{model}-{seed}", data, model, seed))
            print(json.dumps(figures(f"{model}, seeds 0 to {seed}", places[model])), flush=True)
    results += [figures(model, of_seeds) for model, of_seeds in places.items()]
    (options.out / "recall.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
