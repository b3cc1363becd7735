#!/usr/bin/env python3
"""How well filtered searches find what filtered brute force finds, and what they score: docs/quality.md.

    .venv/bin/python tools/filter_quality.py --run RUN --out MODELS

RUN is a run of `nann train`, `nann embed` and `nann index`, with RUN/requests.npz. Makes a run MODELS/run of
links to its files, with attributes of its own in place of RUN's, exports it to MODELS/1 (both are used again
if they are there), and searches for users of the requests with filters that 50 % to 0.01 % of the items pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nann.export import ExportOptions, Tuning, export_model
from nann.export.loaded import LoadedModel, loaded
from nann.run import ATTRIBUTES, load_model

SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
# Directions in which the embeddings differ most: a filter on one of them is correlated with taste.
AXES, CATEGORIES = 8, 1000


def link_run(run: Path, folder: Path) -> None:
    """Make `folder` a run of links to what `run` has, without its attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in run.iterdir():
        if path.name != ATTRIBUTES and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())


def write_attributes(run: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Columns by name: a random number, a category (a cluster of embeddings), and principal components."""
    path = run / ATTRIBUTES
    if path.exists():
        table = pq.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    import faiss

    ids = np.load(run / "embeddings/item_ids.npy")
    embs = np.load(run / "embeddings/item_embs.npy").astype(np.float32)
    centred = embs - embs.mean(axis=0)
    directions = np.linalg.svd(centred[:: max(1, len(embs) // 10_000)], full_matrices=False)[2][:AXES]
    kmeans = faiss.Kmeans(embs.shape[1], min(CATEGORIES, len(embs) // 40), niter=5, seed=1)
    kmeans.train(embs)
    columns = {
        "item_id": ids,
        "random": np.random.default_rng(0).random(len(ids), np.float32),
        "category": kmeans.index.search(embs, 1)[1][:, 0],
        **{f"axis_{number}": values for number, values in enumerate((centred @ directions.T).T)},
    }
    pq.write_table(pa.table(columns), path)
    return columns


def filters(
    columns: dict[str, np.ndarray[Any, Any]], best: np.ndarray[Any, Any]
) -> Iterator[tuple[str, float, str, Any]]:
    """(kind, share, text, mask) of every filter for a user whose best items are at `best`."""
    axes = np.stack([columns[f"axis_{number}"] for number in range(AXES)])
    shift = (axes[:, best].mean(axis=1) - axes.mean(axis=1)) / axes.std(axis=1)
    number = int(np.argmax(np.abs(shift)))
    axis, is_liked_high = axes[number], shift[number] > 0
    counts = np.bincount(columns["category"])
    shuffled = np.random.default_rng(1).permutation(counts.size)
    for share in SHARES:
        yield "random", share, f"random < {share}", columns["random"] < np.float32(share)
        enough = int(np.searchsorted(np.cumsum(counts[shuffled]), share * len(axis))) + 1
        chosen = sorted(shuffled[:enough].tolist())
        text, mask = f"category IN ({', '.join(map(str, chosen))})", np.isin(columns["category"], chosen)
        if enough == 1:
            part = round(share * len(axis) / mask.sum(), 4)
            text, mask = f"{text} AND random < {part}", mask & (columns["random"] < np.float32(part))
        yield "category", share, text, mask
        for kind, is_high in (("taste", is_liked_high), ("against taste", not is_liked_high)):
            limit = np.quantile(axis, 1 - share if is_high else share).astype(np.float32)
            text = f"axis_{number} {'>=' if is_high else '<='} {float(limit)!r}"
            yield kind, share, text, axis >= limit if is_high else axis <= limit


def user_states(run: Path, users: int) -> np.ndarray[Any, Any]:
    """comm_seq [B, L*E] of users of RUN/requests.npz."""
    features = {}
    with np.load(run / "requests.npz") as requests:
        chosen = np.random.default_rng(2).permutation(len(requests["item_ids"]))[:users]
        for name in requests.files:
            known = np.load(run / "vocabulary" / f"{name}.npy")
            row = np.minimum(np.searchsorted(known, requests[name][chosen]), known.size - 1)
            features[name] = np.where(known[row] == requests[name][chosen], row + 1, 0)
    states: np.ndarray[Any, Any] = np.asarray(load_model(run).embed_user(features)["comm_seq"])
    return states.reshape(users, -1)


def measure(
    model: LoadedModel, item_ids: Any, columns: Any, state: Any, beams: Any
) -> Iterator[dict[str, Any]]:
    """Agreement and items scored of every filter, and of none (share 1), for one user."""
    k = int(beams[-1])
    scores = model.run("score", {"comm_seq": state, "item_ids": item_ids[np.newaxis]})["scores"][0]
    order = np.lexsort((item_ids, -scores))
    every = ("none", 1.0, "", np.ones(item_ids.size, np.bool_))
    for kind, share, text, mask in [every, *filters(columns, order[:k])]:
        search = {"level_topn": beams[np.newaxis], "exclude_ids": np.full((1, 1), -1)}
        found = model.run("retrieve_where", {"comm_seq": state, "filter": np.array([text], object), **search})
        best = set(item_ids[order[mask[order]][:k]].tolist())
        ids = {int(item) for item in found["top_k"][0] if item >= 0}
        if not ids <= set(item_ids[mask].tolist()):
            raise SystemExit(f"{text}: expected items that satisfy it only")
        yield {
            "kind": kind,
            "share": share,
            "passing": int(mask.sum()),
            "agreement": len(best & ids) / max(len(best), 1),
            "items_scored": int(found["items_scored"][0]),
            "exact": bool(found["exact"][0]),
        }


@click.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--users", default=64, show_default=True)
@click.option("--walk", type=click.Choice(["auto", "fixed", "adaptive", "proxy"]), default="auto")
def main(*, run: Path, out: Path, users: int, walk: Any) -> None:
    """Print the table as Markdown."""
    version = out / "1"
    link_run(run, out / "run")
    columns = write_attributes(out / "run")
    if not version.exists():
        export_model(out / "run", version, ExportOptions(tuning=Tuning(walk=walk)))
    manifest = json.loads((version / "assets.extra/nann_manifest.json").read_text())
    beams = np.array(manifest["level_topn"], np.int32)
    item_ids = np.load(version / "assets/item_ids.npy")
    order = np.argsort(columns["item_id"])
    rows = order[np.searchsorted(columns["item_id"], item_ids, sorter=order)]
    columns = {name: values[rows] for name, values in columns.items()}
    with loaded(version) as model:
        states = user_states(run, users)
        measured = [
            row for state in states for row in measure(model, item_ids, columns, state[np.newaxis], beams)
        ]
    base = np.mean([row["items_scored"] for row in measured if row["kind"] == "none"])
    click.echo(
        "| filter | items that pass | agreement | worst user | items scored | of no filter's | exact |"
    )
    click.echo("|---|---|---|---|---|---|---|")
    for kind, share in dict.fromkeys((row["kind"], row["share"]) for row in measured):
        mine = [row for row in measured if (row["kind"], row["share"]) == (kind, share)]
        agreement = np.array([row["agreement"] for row in mine])
        scored = np.mean([row["items_scored"] for row in mine])
        click.echo(
            f"| {kind} | {share:.2%} | {agreement.mean():.4f} | {agreement.min():.3f} | {scored:,.0f} | "
            f"{scored / base:.2f} | {'yes' if all(row['exact'] for row in mine) else 'no'} |"
        )


if __name__ == "__main__":
    main()
