"""Writing the SavedModel: the index with its assets, and the signatures that search it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from nann.export._assets import ITEM_ID_ORDER, ITEM_IDS, Assets
from nann.export._encoder import ByIds
from nann.export._signatures import SignatureBuilder, input_names
from nann.export.overlay import OverlayRoom
from nann.export.scorer import Scorer
from nann.ops import IndexResource
from nann.run import RetrievalModel


def write_savedmodel(
    folder: Path,
    model: RetrievalModel,
    scorer: Scorer,
    by_ids: ByIds,
    assets: Assets,
    *,
    max_work: int,
    overlay: OverlayRoom | None,
    equal_lengths: Sequence[tuple[str, str]],
) -> None:
    """Write graph and variables into `folder`, which holds the assets already."""
    module = tf.Module()
    # These assets lie in `folder`/assets, so TensorFlow's saver does not copy them.
    module.index = IndexResource(
        index_dir=assets.folder,
        item_ids=assets.folder / ITEM_IDS,
        id_order=assets.folder / ITEM_ID_ORDER,
        item_tables=assets.item_tables,
        user_tables=assets.user_tables,
        overlay_capacity=0 if overlay is None else overlay.capacity,
        export_id="" if overlay is None else overlay.export_id,
        attributes=assets.attributes,
    )
    if by_ids.user_side is not None:
        module.user_side = by_ids.user_side.resources
    builder = SignatureBuilder(
        model,
        scorer,
        by_ids,
        module.index,
        assets.vocabularies,
        max_work=max_work,
        is_live=overlay is not None,
        with_filters=bool(assets.attributes),
        equal_lengths=equal_lengths,
    )
    # Serving needs no gradients, and saving custom ones (those of silu) fails for a frozen function.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=builder.signatures(), options=options)
    _rename_inputs(folder, {plain: name for name, plain in input_names(model).items() if plain != name})


def _rename_inputs(folder: Path, names: Mapping[str, str]) -> None:
    """Give inputs the names that callers know; TensorFlow's saver takes identifiers only, its loaders any.

    In Python an input `self` keeps its plain name: `signature(self=...)` would name the signature itself.
    """
    if not names:
        return
    in_python = {plain: name for plain, name in names.items() if name != "self"}
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        for signature in meta_graph.signature_def.values():
            for plain in set(names) & set(signature.inputs):
                signature.inputs[names[plain]].CopyFrom(signature.inputs.pop(plain))
        for node in meta_graph.object_graph_def.nodes:
            if node.HasField("bare_concrete_function"):
                keywords = node.bare_concrete_function.argument_keywords
                keywords[:] = [in_python.get(each, each) for each in keywords]
    path.write_bytes(saved.SerializeToString(deterministic=True))
    # The fingerprint is of the old content, and optional.
    (folder / "fingerprint.pb").unlink(missing_ok=True)
