"""`nann query`: asks a running server, or the servers of all shards, for a user's top items.

It needs no TensorFlow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from nann.cli._console import console, emit, json_option
from nann.cli._features import features_of, split_named
from nann.cli._named_inputs import inputs_named, inputs_of
from nann.cli._numbers import NUMBERS, Parsed
from nann.errors import InvalidFileError, InvalidInputError

if TYPE_CHECKING:
    from nann.serving.client import MissingShard, NannClient, ShardedClient, TopK


def _state(text: str) -> tuple[str, Path]:
    name, path = split_named(text)
    return name, Path(path)


_FEATURE = Parsed("NAME=VALUE,...", split_named, expected="NAME=VALUE,... such as country=fr or hour=7")
_STATE = Parsed("NAME=PATH", _state, expected="NAME=PATH such as query_emb=query.npy")


def _hedge_after(text: str) -> float | Literal["p95"]:
    return "p95" if text == "p95" else float(text)


@click.command()
@click.option(
    "--target",
    "targets",
    default=["localhost:8500"],
    show_default=True,
    multiple=True,
    metavar="HOST:PORT[,...]",
    help="gRPC address of the server. Repeat it for each shard; separate replicas of one shard by commas.",
)
@click.option("--model", default="nann", show_default=True, help="Name of the model on the server.")
@click.option("--model-version", type=int, help="Version to ask.  [default: the newest]")
@click.option("--item-ids", type=NUMBERS, help="The user's items, oldest first.")
@click.option("--cate-ids", type=NUMBERS, help="Their categories, in the same order.")
@click.option(
    "--feature",
    "features",
    type=_FEATURE,
    metavar="NAME=VALUE,...",
    multiple=True,
    help="Another input of the model: numbers or strings of one user, as the model's type says. "
    "Quotes keep a comma in a string. Can be repeated.",
)
@click.option(
    "--comm-seq",
    type=click.Path(path_type=Path),
    help="Embedded behaviour sequence: an .npy file with [L, E], or for several users [B, L, E] or [B, L*E].",
)
@click.option(
    "--state",
    "states",
    type=_STATE,
    metavar="NAME=PATH",
    multiple=True,
    help="State of a model by its name, such as query_emb: an .npy file with [B, ...], or one vector. "
    "Can be repeated.",
)
@click.option(
    "--level-topn",
    type=NUMBERS,
    default="100,200,200,200,200,200",
    show_default=True,
    help="Beams: one for the entry points, one per hop, and the number of results.",
)
@click.option("--exclude-ids", type=NUMBERS, help="Ids of items that are not returned.")
@click.option(
    "--where",
    metavar="FILTER",
    help='Return only items whose attributes satisfy this, such as "price <= 20 AND brand IN (3, 7)".',
)
@click.option("--allow-partial", is_flag=True, help="Return a result even if some shards do not answer.")
@click.option(
    "--hedge-after",
    type=_hedge_after,
    metavar="SECONDS|p95",
    help="When to ask another replica of a slow shard as well. p95: after its 95th latency percentile.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time limit of the request in seconds.",
)
@json_option
def command(
    *,
    targets: tuple[str, ...],
    model: str,
    model_version: int | None,
    item_ids: tuple[int, ...] | None,
    cate_ids: tuple[int, ...] | None,
    features: tuple[tuple[str, str], ...],
    comm_seq: Path | None,
    states: tuple[tuple[str, Path], ...],
    level_topn: tuple[int, ...],
    exclude_ids: tuple[int, ...] | None,
    where: str | None,
    allow_partial: bool,
    hedge_after: float | Literal["p95"] | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask a running server for the top items of a user.

    Describe the user by features: the ids of the items they have seen (--item-ids, --cate-ids) and others
    (--feature). Or by what the scorer reads: the embedded sequence (--comm-seq), or state (--state).
    """
    by_ids = {"item_ids": item_ids, "cate_ids": cate_ids}
    rows: dict[str, Any] = {name: values for name, values in by_ids.items() if values is not None}
    if [bool(rows or features), comm_seq is not None, bool(states)].count(True) != 1:
        raise InvalidInputError(
            "give the user by features (--item-ids, --cate-ids, --feature), or by state (--comm-seq, --state)"
        )

    from nann.serving.client import RequestRejectedError

    call: dict[str, Any] = {
        "level_topn": level_topn,
        "exclude_ids": exclude_ids,
        "where": where,
        "timeout": timeout,
        "version": model_version,
    }
    servers = [server for target in targets for server in target.split(",")]
    if features:
        rows |= features_of(features, inputs_of(servers, model, call))
    with _client_of(targets, model, allow_partial, hedge_after) as client:
        started = time.perf_counter()
        try:
            state_names = [name for name, _ in states] or ([] if comm_seq is None else ["comm_seq"])
            with inputs_named(servers[0], model, call, by_ids=rows, states=state_names):
                result = _ask(client, rows, comm_seq, dict(states), call)
        except RequestRejectedError as error:
            if error.expected_beams is None:
                raise
            raise InvalidInputError(
                f"--level-topn: expected {error.expected_beams} values for this model's index (entry beam, "
                f"one per hop, final k), found {len(level_topn)}; the export's nann_manifest.json has beams "
                "that fit"
            ) from error
        milliseconds = (time.perf_counter() - started) * 1e3
    emit(as_json, _as_dict(result, milliseconds), lambda: _render(result, milliseconds))


def _client_of(
    targets: Sequence[str], model: str, allow_partial: bool, hedge_after: float | Literal["p95"] | None
) -> NannClient | ShardedClient:
    """A client of one server, or of all shards and their replicas."""
    from nann.serving.client import NannClient, ShardedClient

    shards = [target.split(",") for target in targets]
    if len(targets) == len(shards[0]) == 1:
        return NannClient(targets[0], model=model)
    return ShardedClient(shards, model=model, allow_partial=allow_partial, hedge_after=hedge_after)


def _ask(
    client: NannClient | ShardedClient,
    rows: dict[str, Any],
    comm_seq: Path | None,
    states: dict[str, Path],
    call: dict[str, Any],
) -> TopK:
    if rows:
        return client.top_k_by_ids(rows, **call)
    if comm_seq is not None:
        return client.top_k(_loaded(comm_seq, "an array [L, E], [B, L, E] or [B, L*E]"), **call)
    return client.top_k({name: _loaded(path, "an array [B, ...]") for name, path in states.items()}, **call)


def _loaded(path: Path, what: str) -> Any:
    import numpy as np

    try:
        return np.load(path)
    except (OSError, ValueError) as error:
        raise InvalidFileError(f"{path}: expected {what}, saved with numpy.save: {error}") from error


def _row(result: TopK, user: int) -> tuple[list[int], list[float]]:
    """Return a user's ids and scores without the padding."""
    is_item = result.ids[user] != -1
    return result.ids[user][is_item].tolist(), result.scores[user][is_item].tolist()


def _missing(result: TopK) -> tuple[MissingShard, ...]:
    from nann.serving.client import ShardedTopK

    return result.missing if isinstance(result, ShardedTopK) else ()


def _passing(passing: int, *, exact: bool) -> str:
    how_many = "many items pass the filter" if passing < 0 else f"{passing} items pass the filter"
    return f"{how_many}; all of them were scored" if exact else how_many


def _as_dict(result: TopK, milliseconds: float) -> dict[str, Any]:
    users: list[dict[str, Any]] = []
    for user in range(len(result.ids)):
        ids, scores = _row(result, user)
        users.append({"ids": ids, "scores": scores})
        if result.items_scored is not None:
            users[user]["items_scored"] = int(result.items_scored[user])
        if result.passing is not None and result.exact is not None:
            users[user]["passing"] = int(result.passing[user])
            users[user]["exact"] = bool(result.exact[user])
    document = {"model_version": result.model_version, "milliseconds": milliseconds, "users": users}
    missing = [{"shard": part.shard, "error": str(part.error)} for part in _missing(result)]
    return {**document, "missing_shards": missing}


def _render(result: TopK, milliseconds: float) -> None:
    from rich.table import Table

    for user in range(len(result.ids)):
        title = f"User {user + 1}" if len(result.ids) > 1 else None
        table = Table("#", "item id", "score", title=title)
        for rank, (item, score) in enumerate(zip(*_row(result, user), strict=True), start=1):
            table.add_row(str(rank), str(item), f"{score + 0.0:.6g}")
        console.print(table)
        if result.items_scored is not None:
            console.print(f"{result.items_scored[user]} items scored")
        if result.passing is not None and result.exact is not None:
            console.print(_passing(int(result.passing[user]), exact=bool(result.exact[user])))
    console.print(f"version {result.model_version}, {milliseconds:.1f} ms over gRPC")
    for missing in _missing(result):
        console.print(f"without shard {missing.shard}: {missing.error}", soft_wrap=True)
