"""Draw docs/walk.png: one real walk over a small HNSW graph in two dimensions.

.venv/bin/pip install matplotlib && .venv/bin/python tools/draw_walk.py docs/walk.png
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from nann.export import GraphIndex, build_index

ITEMS, M = 700, 6
ENTRY_BEAM, BEAMS = 4, (6, 7, 7, 7)  # Level 1, then the three hops of level 0.
COLORS = ("#1f4e79", "#7b3f98", "#c0392b", "#e67e22", "#f1c40f")
LABELS = ("entry points", "level 1, hop 1", "level 0, hop 1", "level 0, hop 2", "level 0, hop 3")


def score(points: Any) -> Any:
    """Two hills of different height: no dot product has such a shape."""
    high = np.exp(-((points - [0.62, 0.45]) ** 2).sum(-1) / 0.06)
    low = 0.7 * np.exp(-((points - [-0.55, -0.5]) ** 2).sum(-1) / 0.12)
    return high + low - 0.25 * points[..., 0] ** 2


def top(count: int, positions: Any, points: Any) -> Any:
    return positions[np.argsort(-score(points[positions]))[:count]]


def build_graph(points: Any) -> GraphIndex:
    with tempfile.TemporaryDirectory() as run:
        (Path(run) / "embeddings").mkdir()
        np.save(Path(run) / "embeddings/item_ids.npy", np.arange(1, len(points) + 1))
        np.save(Path(run) / "embeddings/item_embs.npy", points)
        return build_index(Path(run), m=M, start_level=2, threads=1)


def walk(graph: GraphIndex, points: Any) -> list[tuple[Any, Any, list[tuple[int, int]]]]:
    """(scored, kept, edges followed) of the entry points and of each hop of the fixed walk."""
    steps = [(graph.enter_points, top(ENTRY_BEAM, graph.enter_points, points), [])]
    results, beams = steps[0][1], iter(BEAMS)
    for level in (1, 0):
        visited, candidates = set(results.tolist()), results
        for _ in range(graph.meta.hops_per_level[level]):
            lists, splits = graph.levels[level].values, graph.levels[level].row_splits
            edges = []
            for node in candidates.tolist():
                for neighbor in lists[splits[node] : splits[node + 1]].tolist():
                    if neighbor not in visited:
                        visited.add(neighbor)
                        edges.append((node, neighbor))
            scored = np.array([neighbor for _, neighbor in edges], np.int64)
            beam = next(beams)
            candidates = top(beam, scored, points)
            results = np.concatenate([results, candidates])
            steps.append((scored, candidates, edges))
        if level > 0:
            results = top(beam, results, points)
    return steps


def draw(path: Path) -> None:
    """Write the picture."""
    points = np.random.default_rng(4).uniform(-1, 1, (ITEMS, 2)).astype(np.float32)
    graph = build_graph(points)
    figure, axes = plt.subplots(figsize=(9, 6))
    grid = np.stack(np.meshgrid(np.linspace(-1.05, 1.05, 200), np.linspace(-1.05, 1.05, 200)), -1)
    axes.contourf(grid[..., 0], grid[..., 1], score(grid), levels=14, cmap="Greys", alpha=0.45)
    axes.scatter(*points.T, s=5, color="#9a9a9a", linewidths=0)
    scored_count = 0
    for (scored, kept, edges), color, label in zip(walk(graph, points), COLORS, LABELS, strict=True):
        scored_count += len(scored)
        for a, b in edges:
            axes.plot(*points[[a, b]].T, color=color, linewidth=0.7, alpha=0.6)
        axes.scatter(*points[scored].T, s=16, facecolors="white", edgecolors=color, linewidths=0.9, zorder=3)
        axes.scatter(*points[kept].T, s=34, color=color, zorder=4, edgecolors="white", linewidths=0.6)
        axes.scatter([], [], s=34, color=color, label=f"{label}: {len(scored)} scored, {len(kept)} kept")
    axes.set_title(f"One walk: {scored_count} of {ITEMS} items scored", loc="left")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.text(
        1.02,
        0.22,
        "dark background: high score\nhollow: scored, dropped\nfilled: kept in the beam",
        transform=axes.transAxes,
        va="top",
        color="#555555",
    )
    axes.set_aspect("equal")
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", dpi=120)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
