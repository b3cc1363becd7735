"""`compact`: base and segments become the base of a new version."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.core.protobuf import saved_model_pb2

from nann.errors import InvalidInputError
from nann.export import build_index, read_index, verify_model
from nann.export.attributes import attribute_parts, valid_bits
from nann.export.index.build import DEFAULT_EF_CONSTRUCTION, DEFAULT_SEED
from nann.export.items import CHUNK_ROWS
from nann.export.manifest import MANIFEST, write_manifest
from nann.export.proxy_samples import SAMPLES, proxy_samples
from nann.files import link_or_copy, staged_directory, write_array_in_chunks
from nann.live._links import Links
from nann.live.attribute_values import attribute_values
from nann.live.base import Base, open_base
from nann.live.publisher import remember_number
from nann.live.segment import Segment, read_segment, segment_numbers, segment_path, updates_dir, write_segment
from nann.live.state import State, replay
from nann.ops.index_meta import index_file_names
from nann.progress import OnProgress, ignore_progress

Array = npt.NDArray[Any]
_ITEM_IDS, _ITEM_ID_ORDER = "item_ids.npy", "item_id_order.npy"
# faiss builds no graph with fewer links.
_LEAST_M = 2


def compact(
    model_dir: str | Path, out_dir: str | Path, *, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Write the live items of an export and its segments as the new version `out_dir`, with a new graph.

    Model, scorer, user side, walk and beams are those of the export, whose files are hard links where they
    did not change. Segments that are published meanwhile are linked anew and written for the new version,
    before its folder appears.

    Returns a summary. Raises InvalidFileError for a damaged export or segment, InvalidInputError for a folder
    that is there or is not beside the export, VerificationError when the new export does not answer as the
    reference search.

    Example:
      >>> result = compact("MODELS/nann/1", "MODELS/nann/2")
      >>> result["num_items"], result["segment"]
      (499, 1)
    """
    model_dir, out_dir, report = Path(model_dir), Path(out_dir), on_progress or ignore_progress
    _check_out_dir(model_dir, out_dir)
    state = State(open_base(model_dir))
    for segment in replay(state, updates_dir(model_dir)):
        report("replay segments", segment.number, segment.number)
    with staged_directory(out_dir, replace=False) as staged:
        _write_base(state, staged, report)
        verified = verify_model(staged, on_progress=report)["verified"]
        carried = _carry_over(state, open_base(staged), updates_dir(out_dir))
    return {
        "model": str(out_dir),
        "num_items": state.num_live,
        "segment": state.applied,
        "carried": carried,
        "verified": verified,
    }


def _check_out_dir(model_dir: Path, out_dir: Path) -> None:
    if out_dir.exists() and any(out_dir.iterdir()):
        raise InvalidInputError(
            f"{out_dir}: expected no such folder, found one. Compact into the next version."
        )
    if Path(os.path.abspath(out_dir)).parent != Path(os.path.abspath(model_dir)).parent:
        raise InvalidInputError(
            f"{out_dir}: expected a version folder beside {model_dir}, found another place. Correct --out."
        )


def _write_base(state: State, staged: Path, report: OnProgress) -> None:
    base, live = state.base, state.live
    export_id = uuid.uuid4().hex
    _link_files(base, staged)
    _set_export_id(staged / "saved_model.pb", base.export_id, export_id)
    ids = state.ids(live)
    assets = staged / "assets"
    np.save(assets / _ITEM_IDS, ids)
    np.save(assets / _ITEM_ID_ORDER, np.argsort(ids).astype(np.int32))
    for name, entry in base.manifest["tables"]["item"].items():
        _write_rows(staged / entry["file"], base.tables[name], partial(state.rows, name), live)
    for name, entry in base.manifest["tables"].get("item_state", {}).items():
        _write_rows(staged / entry["file"], base.state[name], partial(state.state_rows, name), live)
    for name in base.attributes:
        _write_attribute(state, name, live, staged)
    _write_graph(base, assets, report)
    samples = base.manifest["tables"]["user"].get(SAMPLES)
    if samples is not None:
        embs = np.load(staged / base.manifest["tables"]["item"]["item_embs"]["file"], mmap_mode="r")
        np.save(staged / samples["file"], proxy_samples(embs))
    write_manifest(staged, _manifest(state, staged, export_id), partial(report, "sum files"))


def _link_files(base: Base, staged: Path) -> None:
    """Everything that does not depend on the items; the rest is written anew."""
    anew = {MANIFEST, f"assets/{_ITEM_IDS}", f"assets/{_ITEM_ID_ORDER}", *_tables_of_items(base)}
    anew |= {f"assets/{name}" for name in index_file_names(base.graph.meta)}
    for path in sorted(base.model_dir.rglob("*")):
        name = path.relative_to(base.model_dir).as_posix()
        if path.is_file() and name not in anew:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, staged / name)
    (staged / "assets").mkdir(exist_ok=True)
    # It is of the old graph's bytes, and optional.
    (staged / "fingerprint.pb").unlink(missing_ok=True)


def _tables_of_items(base: Base) -> set[str]:
    """The files of an export that have a row for each item, or name positions."""
    tables = base.manifest["tables"]
    entries = [*tables["item"].values(), *tables.get("item_state", {}).values()]
    entries += [entry for name, entry in tables["user"].items() if name == SAMPLES]
    attributes = base.manifest.get("attributes", {}).values()
    return {entry["file"] for entry in entries} | {
        file for entry in attributes for file in entry["files"].values()
    }


def _set_export_id(path: Path, old: str, new: str) -> None:
    """Write the graph with another export id: segments of the old one do not fit the new positions."""
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        functions = meta_graph.graph_def.library.function
        nodes = [meta_graph.graph_def.node, *(function.node_def for function in functions)]
        for node in (node for each in nodes for node in each):
            for attribute in node.attr.values():
                if attribute.s == old.encode():
                    attribute.s = new.encode()
    path.unlink()  # It may be a link to the old version's file.
    path.write_bytes(saved.SerializeToString(deterministic=True))


def _write_rows(path: Path, of_base: Array, rows: Any, live: npt.NDArray[np.int64]) -> None:
    def chunks() -> Iterator[Array]:
        for start in range(0, live.size, CHUNK_ROWS):
            yield rows(live[start : start + CHUNK_ROWS])

    write_array_in_chunks(path, chunks(), dtype=of_base.dtype, shape=(live.size, *of_base.shape[1:]))


def _write_attribute(state: State, name: str, live: npt.NDArray[np.int64], staged: Path) -> None:
    """Write the files of an attribute, those that the graph names: no other, and none less."""
    values = attribute_values(state, name)
    parts = attribute_parts(values, live)
    files = state.base.manifest["attributes"][name]["files"]
    if "valid" not in files and values.take(live).null_count:
        raise InvalidInputError(
            f"{state.base.model_dir}: expected an export that can have NULL in the attribute {name}, found "
            f"one of an earlier version of nann. Export again from a new snapshot."
        )
    if "element_valid" in files and "element_valid" not in parts:
        parts["element_valid"] = valid_bits(np.ones(parts["values"].size, np.bool_))
    for part, file in files.items():
        np.save(staged / file, parts[part])


def _write_graph(base: Base, assets: Path, report: OnProgress) -> None:
    """Build the graph of the new items with the parameters of the old one."""
    meta = base.graph.meta
    with tempfile.TemporaryDirectory(dir=assets, prefix=".run-") as name:
        run = Path(name)
        (run / "embeddings").mkdir()
        embs = base.manifest["tables"]["item"]["item_embs"]["file"]
        os.link(assets / _ITEM_IDS, run / "embeddings/item_ids.npy")
        os.link(assets.parent / embs, run / "embeddings/item_embs.npy")
        m = max(meta.m, _LEAST_M)
        graph = build_index(
            run,
            metric=meta.metric,
            m=m + m % 2 if meta.metric == "ip" else m,
            ef_construction=meta.ef_construction or DEFAULT_EF_CONSTRUCTION,
            start_level=meta.start_level,
            choose=meta.chosen_entry_points,
            hops_per_level=meta.hops_per_level,
            seed=DEFAULT_SEED if meta.seed is None else meta.seed,
            on_progress=report,
        )
        for file in index_file_names(graph.meta):
            os.replace(run / "index" / file, assets / file)


def _manifest(state: State, staged: Path, export_id: str) -> dict[str, Any]:
    content = {
        name: part for name, part in state.base.manifest.items() if name not in ("format_version", "files")
    }
    graph = read_index(staged / "assets")
    content["index"] = {
        **content["index"],
        "num_items": graph.meta.num_items,
        "num_copies": graph.meta.num_copies,
        "enter_points": int(graph.enter_points.size),
    }
    tables = {
        kind: {name: dict(entry) for name, entry in each.items()} for kind, each in content["tables"].items()
    }
    for entry in (entry for each in tables.values() for entry in each.values()):
        entry["shape"] = list(np.load(staged / entry["file"], mmap_mode="r").shape)
    content["tables"] = tables
    content["overlay"] = {**content["overlay"], "export_id": export_id}
    content["compacted"] = {"export_id": state.base.export_id, "segment": state.applied}
    return content


def _carry_over(old: State, base: Base, folder: Path) -> int:
    """Write the segments that were published since `old` for the new `base`; returns their number.

    The first segment of a new version changes nothing. It has the number of the last one in the base, so that
    numbers go on, and the offset of its source.
    """
    # What a compaction has left that was killed: segments of an export that never appeared.
    shutil.rmtree(folder, ignore_errors=True)
    state, links = State(base), Links(base)
    if old.applied:
        _publish(state, folder, _emptied(old.segments[-1], base))
        remember_number(folder, old.applied)
    waiting, carried = updates_dir(old.base.model_dir), 0
    while newer := [number for number in segment_numbers(waiting) if number > old.applied]:
        path = segment_path(waiting, newer[0])
        segment = read_segment(path)
        gone = old.ids(segment.column("deleted", "<i4").astype(np.int64))
        old.apply(segment, str(path))
        _publish(state, folder, _relinked(segment, gone, state, links))
        carried += 1
    return carried


def _publish(state: State, folder: Path, segment: Segment) -> None:
    state.apply(segment, str(segment_path(folder, segment.number)))
    write_segment(folder, segment)


def _emptied(segment: Segment, base: Base) -> Segment:
    """A segment of this number and this offset without changes, the first of `base`."""
    own = {name: column for name, column in segment.columns.items() if name.startswith("publisher/")}
    return Segment(segment.number, 0, base.num_items, 0, base.export_id, segment.published_micros, own)


def _relinked(segment: Segment, gone: npt.NDArray[np.int64], state: State, links: Links) -> Segment:
    """The changes of a segment at the positions and with the links of another base.

    gone: ids of the items at the positions that the segment deletes.
    """
    ids = segment.column("ids", "<i8")
    former = {state.position_of(item_id) for item_id in [*ids.tolist(), *gone.tolist()]} - {None}
    deleted = np.array(sorted(former), np.int32)  # type: ignore[type-var]  # None was left out
    links.delete(deleted)
    kept = {
        name: column
        for name, column in segment.columns.items()
        if not name.startswith("links/") and name != "deleted"
    }
    linked = links.insert(segment.columns["table/item_embs"], state.num_positions) if ids.size else {}
    return Segment(
        segment.number,
        state.applied,
        state.num_positions,
        segment.num_new,
        state.base.export_id,
        segment.published_micros,
        {**kept, "deleted": deleted, **linked},
    )
