"""Retrieval scorers as scientists in production write them in Keras 3 and TensorFlow, with seeded weights.

Written for ranking code, not for this project; that is the point. `ZOO["din"]()` makes a model,
`write_run("din", folder)` the RUN of it that `nann index` and `nann export` take.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import (
    attention,
    crosses,
    experts,
    features,
    handed,
    idioms,
    layouts,
    lookups,
    numerics,
    places,
    plain,
    saved,
    sequences,
    tables,
    towers,
    waves,
)
from zoo.base import ITEM_IDS, N, vocabulary

_REAL_USERS = 64  # Of a run that has some: enough to choose a walk by.
# A few roundings of the model's own type, relative to the largest score.
_FLOAT16, _BFLOAT16 = 4 * 2.0**-10, 4 * 2.0**-7


@dataclass(frozen=True)
class Factory:
    """Makes one member.

    model:     its class, which run.json names.
    tolerance: how near its export's scores must be to its own, relative to the largest.
    quick:     whether `make test` exports it.
    """

    model: type[Any]
    tolerance: float = 1e-5
    quick: bool = False

    def __call__(self) -> Any:
        """The model with its seeded weights."""
        return self.model()


ZOO: dict[str, Factory] = {
    "din": Factory(attention.DIN, quick=True),
    "din_dice": Factory(attention.DINWithDice),
    "din_subclassed": Factory(attention.DINSubclassed),
    "dien": Factory(attention.DIEN),
    "dien_unrolled": Factory(attention.DIENUnrolled),
    "dien_long": Factory(attention.DIENLong),
    "target_attention": Factory(attention.TargetAttention),
    "bst": Factory(attention.BST),
    "sim": Factory(attention.SIM),
    "hstu": Factory(attention.HSTU),
    "longer": Factory(attention.Longer),
    "memory_addressing": Factory(attention.MemoryAddressing),
    "sasrec": Factory(sequences.SASRec),
    "rotary": Factory(sequences.Rotary),
    "bert4rec": Factory(sequences.BERT4Rec),
    "encoder_subclassed": Factory(sequences.EncoderSubclassed),
    "gru4rec": Factory(sequences.GRU4Rec),
    "gru4rec_long": Factory(sequences.GRU4RecLong),
    "lstm_user": Factory(sequences.LSTMUser),
    "caser": Factory(sequences.Caser),
    "comirec": Factory(sequences.ComiRec),
    "mind": Factory(sequences.MIND),
    "last_events": Factory(sequences.LastEvents),
    "two_tower": Factory(towers.TwoTower, quick=True),
    "cosine_towers": Factory(towers.CosineTowers),
    "cosine_one_user": Factory(towers.CosineOneUser),
    "sequential_towers": Factory(towers.SequentialTowers),
    "mixture_of_logits": Factory(towers.MixtureOfLogits),
    "linear_bandit": Factory(towers.LinearBandit),
    "neumf": Factory(towers.NeuMF, quick=True),
    "dlrm": Factory(crosses.DLRM),
    "dcn_v2": Factory(crosses.DCNv2, quick=True),
    "dcn_low_rank": Factory(crosses.DCNLowRank),
    "fm": Factory(crosses.FM),
    "ffm": Factory(crosses.FFM),
    "deepfm": Factory(crosses.DeepFM),
    "xdeepfm": Factory(crosses.XDeepFM),
    "autoint": Factory(crosses.AutoInt),
    "pnn": Factory(crosses.PNN),
    "fibinet": Factory(crosses.FiBiNET),
    "final_mlp": Factory(crosses.FinalMLP),
    "mmoe": Factory(experts.MMoE),
    "ple": Factory(experts.PLE),
    "sparse_experts": Factory(experts.SparseExperts),
    "user_gated_experts": Factory(experts.UserGatedExperts),
    "two_tasks_subclassed": Factory(experts.TwoTasksSubclassed),
    "profile_rows": Factory(features.ProfileRows),
    "string_lookups": Factory(features.StringLookups, quick=True),
    "feature_space": Factory(features.FeatureSpaceUser),
    "raw_integers": Factory(features.RawIntegers),
    "open_length": Factory(features.OpenLength),
    "item_columns": Factory(features.ItemColumns),
    "item_dates": Factory(features.ItemDates, quick=True),
    "item_bias": Factory(features.ItemBias),
    "batch_score": Factory(features.BatchScore),
    "mixed_float16": Factory(numerics.MixedFloat16, tolerance=_FLOAT16),
    "mixed_bfloat16": Factory(numerics.MixedBfloat16, tolerance=_BFLOAT16),
    "float16": Factory(numerics.Float16, tolerance=_FLOAT16),
    "norms": Factory(numerics.Norms),
    "activations": Factory(numerics.Activations),
    "squared_distance": Factory(numerics.SquaredDistance),
    "nearest_events": Factory(idioms.NearestEvents),
    "hard_interest": Factory(idioms.HardInterest),
    "sparsemax": Factory(idioms.Sparsemax),
    "bilstm_pairs": Factory(idioms.BiLSTMPairs),
    "conv_pairs": Factory(idioms.ConvPairs),
    "separable_pairs": Factory(idioms.SeparablePairs),
    "poincare": Factory(idioms.Poincare),
    "quantiles": Factory(idioms.Quantiles),
    "noisy_or": Factory(idioms.NoisyOr),
    "shifted_events": Factory(idioms.ShiftedEvents),
    "rank_discounts": Factory(idioms.RankDiscounts),
    "grouped_convs": Factory(idioms.GroupedConvs),
    "sessions": Factory(idioms.Sessions),
    "time_gaps": Factory(idioms.TimeGaps),
    "branches": Factory(idioms.Branches),
    "batch_heads": Factory(layouts.BatchHeads, quick=True),
    "gated_mlp": Factory(layouts.GatedMLP),
    "interaction_image": Factory(layouts.InteractionImage),
    "minimal_gru": Factory(layouts.MinimalGRU),
    "title_words": Factory(lookups.TitleWords),
    "crossed_ids": Factory(lookups.CrossedIds, quick=True),
    "places_and_days": Factory(places.PlacesAndDays, quick=True),
    "poly_encoder": Factory(attention.PolyEncoder),
    "dcn_mix": Factory(crosses.DCNMix),
    "product_codes": Factory(tables.ProductCodes),
    "calibrated": Factory(tables.Calibrated),
    "trees": Factory(tables.Trees),
    "tied_weights": Factory(tables.TiedWeights),
    "eulernet": Factory(waves.EulerNet),
    "eulernet_complex": Factory(waves.EulerNetComplex),
    "rotate": Factory(waves.RotatE),
    "complex": Factory(waves.ComplEx),
    "hole": Factory(waves.HolE),
    "fmlp_rec": Factory(waves.FMLPRec),
    "time2vec": Factory(waves.TimeWaves),
    "fourier_prices": Factory(waves.FourierPrices),
    "einsum": Factory(plain.EinsumScorer, quick=True),
    "einsum_functions": Factory(saved.EinsumFunctions),
    "einsum_signatures": Factory(saved.EinsumSignatures),
    "din_archive": Factory(saved.DINArchive),
    "gru4rec_archive": Factory(saved.GRU4RecArchive),
    "string_lookups_archive": Factory(saved.StringLookupsArchive),
}


def factory_of(name: str) -> Factory:
    """Of a member of the zoo, or of `PATH.py:Class` (zoo.handed)."""
    return Factory(handed.class_of(name)) if handed.is_handed(name) else ZOO[name]


def write_run(name: str, run_dir: Path, model: Any = None) -> Any:
    """Write the RUN of a member, without an index; returns the model whose weights it holds.

    model: the member; None makes one.
    """
    model = factory_of(name)() if model is None else model
    for folder in ("embeddings", "vocabulary"):
        (run_dir / folder).mkdir(parents=True, exist_ok=True)
    model.save(run_dir)
    embs, state = item_side(model)
    np.save(run_dir / "embeddings/item_ids.npy", ITEM_IDS)
    np.save(run_dir / "embeddings/item_embs.npy", embs)
    for column, values in state.items():
        np.save(run_dir / f"embeddings/item_state_{column}.npy", values)
    for feature, size in model.vocabularies.items():
        np.save(run_dir / f"vocabulary/{feature}.npy", vocabulary(feature, size))
    if getattr(model, "takes_real_users_only", False):
        np.savez(run_dir / "requests.npz", **model.draw(np.random.default_rng(1), _REAL_USERS))
    (run_dir / "run.json").write_text(json.dumps({"format": 1, "model": _named(model)}))
    return model


def _named(model: Any) -> str:
    if hasattr(model, "saved_model"):
        return f"saved_model:{model.saved_model}"
    return f"{type(model).__module__}:{type(model).__qualname__}"


def item_side(model: Any) -> tuple[Any, dict[str, Any]]:
    """Embeddings float32 [N, D] and item state [N, ...] of the corpus, by the model's own functions."""
    features = {name: tf.constant(values) for name, values in model.item_features().items()}
    embedded = model.embed_item(features)
    embs, state = embedded if isinstance(embedded, tuple) else (embedded, {})
    embs = tf.cast(embs, tf.float32).numpy()
    assert embs.shape == (N, model.embedding_dim)
    return embs, {name: np.asarray(values) for name, values in state.items()}
