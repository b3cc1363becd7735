"""`nann export`: writes a SavedModel from a run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from nann.cli._console import (
    emit,
    encoder_text,
    import_tensorflow,
    json_option,
    left_out_text,
    print_text,
    progress,
    raw_integers_text,
    shell_command,
)
from nann.cli._numbers import JSON_OBJECT, NUMBERS
from nann.cli._ways import WayIn, ways_in
from nann.errors import NannWarning


@click.command(name="export")
@ways_in
@click.option(
    "--out",
    "out_dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Version folder to write, such as MODELS/nann/1.",
)
@click.option(
    "--level-topn",
    "beams",
    type=NUMBERS,
    help="Default beams: entry beam, one beam per hop, final k.  [default: those that reach the target "
    "agreement for 200 results; of the fixed walk 100,200,...,200, for a shard all but k divided by the "
    "number of shards]",
)
@click.option(
    "--tile-rows",
    type=int,
    help="Items per tile of a scorer that TensorFlow runs.  [default: 128; 48 for the adaptive and the proxy "
    "walk, whose hops are short]",
)
@click.option(
    "--split/--no-split",
    default=True,
    show_default=True,
    help="Run the user's part of the scorer once per request, and read the items' part from a table.",
)
@click.option(
    "--item-table-bytes",
    default=4 * 2**30,
    show_default=True,
    type=click.IntRange(min=0),
    help="Largest size of that table; 0 makes no table.",
)
@click.option(
    "--max-constant-bytes",
    default=16 * 2**20,
    show_default=True,
    type=click.IntRange(min=0),
    help="Largest variable used by score, in bytes, that may be stored as a constant of the graph.",
)
@click.option(
    "--reorder",
    is_flag=True,
    help="Store similar items next to each other, for the processor's caches. The corpus and the index "
    "are then copied instead of linked.",
)
@click.option(
    "--executor",
    type=click.Choice(["auto", "native", "tensorflow"]),
    default="auto",
    show_default=True,
    help="What runs the scorer: the native executor, or TensorFlow. auto is native wherever it can run the "
    "scorer.",
)
@click.option(
    "--encoder",
    type=click.Choice(["auto", "tensorflow"]),
    default="auto",
    show_default=True,
    help="What encodes the users of retrieve_by_ids: auto is the native executor wherever it runs the scorer "
    "and can run embed_user.",
)
@click.option(
    "--jit",
    is_flag=True,
    help="Let XLA compile the scorer, which TensorFlow then runs. Servers need XLA switched on.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16", "int8", "auto"]),
    default="float32",
    show_default=True,
    help="Precision of the native executor's walk: float16 stores tables in float16; bfloat16 stores tables "
    "and multiplies in bfloat16; int8 stores tables in int8, with a scale for each 64 numbers, and "
    "multiplies in bfloat16; auto takes the fastest by the clock of float32 and those that are accurate "
    "enough. Results are scored again in float32.",
)
@click.option(
    "--accuracy",
    default=0.99,
    show_default=True,
    help="Least share of the float32 results that bfloat16, float16 or int8 must find.",
)
@click.option(
    "--walk",
    type=click.Choice(["auto", "fixed", "adaptive", "proxy", "all"]),
    default="auto",
    show_default=True,
    help="fixed: as many hops as the index says; adaptive: until all best candidates are expanded; proxy: "
    "scores only items that a guess, made from features of the items, speaks for; all: scores every item; "
    "auto: the fastest of the last three, by the clock, that reaches the target agreement.",
)
@click.option(
    "--proxy/--no-proxy",
    default=True,
    show_default=True,
    help="Compute the features that the proxy walk needs: 256 users' scores of all items.",
)
@click.option(
    "--expand",
    type=int,
    help="Candidates per hop of the adaptive walk.  [default: 8 for inner products and distances, 32 for "
    "other scorers, with --walk auto the faster of the two]",
)
@click.option(
    "--target-agreement",
    type=float,
    help="Choose the beams of level 0 with which the walk finds this share of what scoring every item finds, "
    "for users that they were not chosen by.  [default: 0.98, unless --level-topn is given or the walk is "
    "fixed]",
)
@click.option(
    "--requests",
    type=click.Path(path_type=Path),
    help="Real users to choose walk and beams and to verify the export by: an .npz file with the model's "
    "user features or user state, or a TFRecord of PredictionLog.  [default: RUN/requests.npz, which nann "
    "embed writes; else users are made up]",
)
@click.option(
    "--sample-users",
    default=128,
    show_default=True,
    type=click.IntRange(min=1),
    help="Users to choose by, and as many others to measure with.",
)
@click.option(
    "--overlay-share",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0.0, 1.0),
    help="Room for items that are inserted while the export is served, as a share of its items; 0 makes an "
    "export that takes no segments (docs/live.md).",
)
@click.option(
    "--stream-offset",
    type=JSON_OBJECT,
    help="Where nann publish begins to read its source for this export, for example "
    """'{"kafka": {"0": 1200}}'.  [default: at its beginning]""",
)
@click.option(
    "--shards",
    type=click.IntRange(1),
    help="Write this many exports with disjoint items; MODELS/nann/1 becomes MODELS/nann-0-of-4/1 and so on.",
)
@click.option(
    "--threads",
    type=int,
    help="Threads of faiss for the graphs of shards; 1 makes them repeatable.  [default: all processors]",
)
@click.option("--overwrite", is_flag=True, help="Replace an export that is there, in one step.")
@json_option
def command(
    way: WayIn,
    out_dir: Path,
    beams: tuple[int, ...] | None,
    tile_rows: int | None,
    split: bool,
    item_table_bytes: int,
    max_constant_bytes: int,
    reorder: bool,
    executor: str,
    encoder: str,
    jit: bool,
    precision: str,
    accuracy: float,
    walk: str,
    proxy: bool,
    expand: int | None,
    target_agreement: float | None,
    requests: Path | None,
    sample_users: int,
    overlay_share: float,
    stream_offset: dict[str, Any] | None,
    shards: int | None,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Export a run's model, embeddings and index as one SavedModel, which is verified before it appears.

    --vectors and --faiss need no run and no model. With --shards as several SavedModels, each with a part of
    the items and its own graph (docs/shards.md).
    """
    if threads is not None and shards is None:
        raise click.UsageError("--threads needs --shards: an export of the whole corpus builds no graph.")
    if shards is not None and way.run_dir is None:
        raise click.UsageError("--shards needs --run.")
    import_tensorflow()
    import nann.export as nann_export

    options = nann_export.ExportOptions(
        level_topn=beams,
        requests=requests,
        tile_rows=tile_rows,
        split=split,
        item_table_bytes=item_table_bytes,
        encoder=encoder,  # type: ignore[arg-type]  # click has checked the choices.
        max_constant_bytes=max_constant_bytes,
        reorder=reorder,
        overlay_share=overlay_share,
        stream_offset=stream_offset,
        tuning=nann_export.Tuning(
            executor=executor,  # type: ignore[arg-type]
            jit=jit,
            precision=precision,  # type: ignore[arg-type]
            accuracy=accuracy,
            walk=walk,  # type: ignore[arg-type]
            proxy=proxy,
            expand=expand,
            target_agreement=target_agreement,
            users=sample_users,
        ),
    )
    with progress(as_json) as on_progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", NannWarning)  # printed with the result
        of_call: dict[str, Any] = {"overwrite": overwrite, "on_progress": on_progress}
        if shards is None:
            result = way.export(out_dir, options, of_call)
        else:
            assert way.run_dir is not None
            result = nann_export.export_shards(
                way.run_dir, out_dir, options, model=way.model(), shards=shards, threads=threads, **of_call
            )
    emit(as_json, result, lambda: _render(result) if shards is None else _render_shards(result))


def _render(result: dict[str, Any]) -> None:
    verified = result["verified"]
    print_text(
        f"{result['model']}: {result['num_items']:,} items, signatures {', '.join(verified['signatures'])}. "
        f"The answers are those of the reference search, scores within "
        f"{verified['largest_relative_difference']:.0e}{_tolerance_text(result)}.\n"
        f"{_raw_integers(result)}{_split_text(result)}{_tuning_text(result)}"
        f"Next: {_serve_command(Path(result['model']))}"
    )


def _raw_integers(result: dict[str, Any]) -> str:
    return raw_integers_text(result["raw_integers"], result["raw_rows"], result["warnings"])


def _tolerance_text(result: dict[str, Any]) -> str:
    narrow = result["tolerance"] > 1e-5
    return f" ({result['tolerance']:.0e} allowed: the model computes in narrow numbers)" if narrow else ""


def _split_text(result: dict[str, Any]) -> str:
    split = result["split"]
    if split is None:
        return ""
    if split["reason"] is not None:
        return f"Scorer not split: {split['reason']}.\n"
    flops, gathered, width = split["flops_per_item"], split["bytes_per_item"], split["table_width"]
    text = (
        f"Scorer split: per item {flops['before']:,} FLOPs became {flops['after']:,}, "
        f"{gathered['before']:,} bytes gathered became {gathered['after']:,}.\n"
    )
    if split["user_tensors"]:
        tensors = ", ".join(f"{tensor['name']} {tensor['shape']}" for tensor in split["user_tensors"])
        text += f"  once per request: {tensors}, {split['user_flops']:,} FLOPs\n"
    if width:
        columns = ", ".join(f"{column['name']} [{column['width']}]" for column in split["item_columns"])
        mebibytes = result["num_items"] * width * 4 / 2**20
        text += f"  in the item table: {columns}, {mebibytes:,.1f} MiB\n"
    return text


def _tuning_text(result: dict[str, Any]) -> str:
    precision, calibration = result["precision"], result["calibration"]
    if result["executor"] == "native":
        text = f"Scorer run by the native executor in {precision['precision']}.\n"
    elif result["jit"]:
        text = (
            "Scorer run by TensorFlow, compiled by XLA at the first request or warm-up.\n"
            "  TensorFlow Serving must be started with --xla_cpu_compilation_enabled=true\n"
        )
    else:
        reason = result["executor_reason"]
        text = f"Scorer run by TensorFlow{'' if reason is None else f': {reason}'}.\n"
    if result["encoder"] is not None:
        text += f"Users of retrieve_by_ids are {encoder_text(result['encoder'])}.\n"
    text += left_out_text(result)
    for name, agreement in precision["agreements"].items():
        text += (
            f"  {name} finds {agreement:.1%} of float32's results ({precision['users']} sample users, "
            f"at least {precision['accuracy']:.1%} wanted)\n"
        )
    if precision["milliseconds"]:
        times = ", ".join(f"{name} {time:.2f} ms" for name, time in precision["milliseconds"].items())
        text += f"  a request takes {times}\n"
    return text if calibration is None else text + _calibration_text(calibration, result["num_items"])


def _calibration_text(found: dict[str, Any], num_items: int) -> str:
    brute = f"{found['brute_force_milliseconds']:.2f} ms"
    if found["walk"] == "all":
        text = f"Every item is scored, without a walk: {num_items:,} items, {brute} per request.\n"
        others = {name: each for name, each in found["considered"].items() if each["walk"] != "all"}
        for name, each in others.items():
            text += f"  The {name} walk {_walk_text(each)}.\n"
    else:
        text = (
            f"Walk {found['walk']}, level_topn {','.join(map(str, found['level_topn']))}: it "
            f"{_walk_text(found)}. Scoring every item ({num_items:,}) takes {brute}.\n"
        )
        if found["brute_force_is_cheaper"]:
            text += "  Scoring every item is cheaper: --walk all.\n"
        elif found["brute_force_milliseconds"] <= found["milliseconds"]:
            text += "  That is the same time within 5 %: the walk is taken, which scores fewer items.\n"
    if not found["reached"]:
        text += (
            f"  This is less than the target: {found['target']:.1%}, and "
            f"{1 - 5 * (1 - found['target']):.1%} for the worst 5 % of users. Take --walk auto, a higher "
            f"--target-agreement or more --sample-users.\n"
        )
    users = f"{found['users']} users that it was not chosen by ({found['tuned_on']} others)"
    if found["source"] is None:
        return text + (
            f"  Measured on {users}. All are made up, and real ones may find less: name a file of real users "
            f"by --requests.\n"
        )
    return text + f"  Measured on {users}, of {found['source']}.\n"


def _walk_text(found: dict[str, Any]) -> str:
    return (
        f"finds {found['agreement']:.1%} of what scoring every item finds (the worst 5 % of users: "
        f"{found['worst_5_percent']:.1%}), scores {found['items_scored']:,.0f} items and takes "
        f"{found['milliseconds']:.2f} ms per request"
    )


def _render_shards(result: dict[str, Any]) -> None:
    models = [Path(model) for model in result["models"]]
    for model, items in zip(models, result["items_of_shard"], strict=True):
        print_text(f"{model}: {items:,} items")
    for text in result["warnings"]:
        print_text(f"Warning: {text}")
    print_text(
        f"{len(models)} shards of {result['num_items']:,} items. Each answers as the reference search over "
        f"its own, scores within {result['verified']['largest_relative_difference']:.0e}.\n"
        f"Next, a server for each: {_serve_command(models[0])}"
    )


def _serve_command(model: Path) -> str:
    return shell_command("nann", "serve", "--model_name", "nann", "--model_base_path", model.parent)
