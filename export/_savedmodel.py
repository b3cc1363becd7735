"""Writing the SavedModel: the index with its assets, and the signatures that search it."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from nann.export._assets import ITEM_ID_ORDER, ITEM_IDS, Assets
from nann.export._signatures import SignatureBuilder
from nann.export._user_side import UserSide
from nann.export.scorer import Scorer
from nann.ops import IndexResource
from nann.run import RetrievalModel


def write_savedmodel(
    folder: Path,
    model: RetrievalModel,
    scorer: Scorer,
    user_side: UserSide | None,
    assets: Assets,
    *,
    max_work: int,
) -> None:
    """Write graph and variables into `folder`, whose `assets/` is filled already."""
    module = tf.Module()
    # TensorFlow's saver copies assets into `assets/` unless they are there: these are.
    module.index = IndexResource(
        index_dir=assets.folder,
        item_ids=assets.folder / ITEM_IDS,
        id_order=assets.folder / ITEM_ID_ORDER,
        item_tables=assets.item_tables,
        user_tables=assets.user_tables,
    )
    if user_side is not None:
        module.user_side = user_side.resources
    builder = SignatureBuilder(model, scorer, user_side, module.index, assets.vocabularies, max_work=max_work)
    # Serving takes no gradients, and saving the custom ones (of silu, say) fails in a frozen function.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=builder.signatures(), options=options)
