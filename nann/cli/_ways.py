"""What `nann export` is given: a run, with Keras files perhaps, or vectors, or an index file of faiss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class WayIn:
    """One of `run_dir`, `vectors` and `faiss_file`; the others are None.

    keras: "user", "item", "scorer" -> the .keras file of each that was named.
    """

    run_dir: Path | None
    vectors: Path | None
    faiss_file: Path | None
    ids: Path | None
    metric: Any
    keras: dict[str, Path]

    def export(self, out_dir: Path, options: Any, of_call: dict[str, Any]) -> dict[str, Any]:
        """Export what was given; `of_call` are further arguments of `export_model`."""
        import nann.export as nann_export

        if self.vectors is not None:
            return nann_export.export_vectors(
                self.vectors, out_dir, options, ids=self.ids, metric=self.metric or "ip", **of_call
            )
        if self.faiss_file is not None:
            return nann_export.export_faiss(self.faiss_file, out_dir, options, ids=self.ids, **of_call)
        assert self.run_dir is not None
        return nann_export.export_model(self.run_dir, out_dir, options, model=self.model(), **of_call)

    def model(self) -> Any:
        """The model of the Keras files; None: run.json names it."""
        from nann.run import load_keras_files

        return load_keras_files(self.keras, Path("--keras-user, --keras-scorer")) if self.keras else None


_OPTIONS = (
    click.option("--run", "run_dir", type=_PATH, help="Folder of the run."),
    click.option(
        "--keras-user", type=_PATH, help="User network, a .keras file, in place of run.json's model."
    ),
    click.option("--keras-item", type=_PATH, help="Item network of the same model."),
    click.option("--keras-scorer", type=_PATH, help="Scorer for a batch of pairs.  [default: inner product]"),
    click.option("--vectors", type=_PATH, help="In place of --run: item vectors [N, D], an .npy file."),
    click.option("--faiss", "faiss_file", type=_PATH, help="In place of --run: an HNSW index file of faiss."),
    click.option("--ids", type=_PATH, help="Item ids, int64 [N], an .npy file.  [default: the row numbers]"),
    click.option(
        "--metric",
        type=click.Choice(["ip", "l2", "cosine"]),
        help="How --vectors are compared with a query vector.  [default: ip]",
    ),
)


def ways_in(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, as the one parameter `way`."""

    @functools.wraps(function)
    def command(
        *,
        run_dir: Path | None,
        vectors: Path | None,
        faiss_file: Path | None,
        ids: Path | None,
        metric: str | None,
        **others: Any,
    ) -> Any:
        files = {name: others.pop(f"keras_{name}") for name in ("user", "item", "scorer")}
        keras = {name: file for name, file in files.items() if file is not None}
        if sum(each is not None for each in (run_dir, vectors, faiss_file)) != 1:
            raise click.UsageError("Give one of --run, --vectors, --faiss.")
        if metric is not None and vectors is None:
            raise click.UsageError("--metric needs --vectors.")
        if ids is not None and run_dir is not None:
            raise click.UsageError("--ids needs --vectors or --faiss.")
        if keras and run_dir is None:
            raise click.UsageError(f"--keras-{next(iter(keras))} needs --run.")
        return function(way=WayIn(run_dir, vectors, faiss_file, ids, metric, keras), **others)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command
