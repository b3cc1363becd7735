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
    """Write graph and variables into `folder`, which holds the assets already."""
    module = tf.Module()
    # These assets lie in `folder`/assets, so TensorFlow's saver does not copy them.
    module.index = IndexResource(
        index_dir=assets.folder,
        item_ids=assets.folder / ITEM_IDS,
        id_order=assets.folder / ITEM_ID_ORDER,
        item_tables=assets.item_tables,
        user_tables=assets.user_tables,
    )
    builder = SignatureBuilder(model, scorer, user_side, module.index, assets.vocabularies, max_work=max_work)
    # Serving needs no gradients, and saving custom ones (those of silu) fails for a frozen function.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=builder.signatures(), options=options)
