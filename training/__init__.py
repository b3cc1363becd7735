"""Data sets, the reference model, its trainer, item embeddings and their evaluation.

What needs TensorFlow is imported when it is first used, so that preparing data does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nann.lazy import lazy_names
from nann.training._columns import Column as Column
from nann.training._dataset import Dataset as Dataset
from nann.training._dataset import read_dataset as read_dataset
from nann.training._sources import PrepareOptions as PrepareOptions
from nann.training._sources import load_source as load_source
from nann.training._sources import prepare_data as prepare_data
from nann.training._sparse import SparseOptions as SparseOptions
from nann.training._splits import Examples as Examples
from nann.training._splits import Split as Split
from nann.training._splits import SplitOptions as SplitOptions
from nann.training._synthetic import SyntheticOptions as SyntheticOptions

if TYPE_CHECKING:
    from nann.training._embed import embed as embed
    from nann.training._evaluate import EvaluateOptions as EvaluateOptions
    from nann.training._evaluate import Evaluation as Evaluation
    from nann.training._evaluate import evaluate as evaluate
    from nann.training._mixture import MixtureOfLogits as MixtureOfLogits
    from nann.training._model import ModelConfig as ModelConfig
    from nann.training._model import ReferenceModel as ReferenceModel
    from nann.training._networks import Networks as Networks
    from nann.training._options import TrainOptions as TrainOptions
    from nann.training._sweep import Sweep as Sweep
    from nann.training._sweep import SweepPoint as SweepPoint
    from nann.training._sweep import sweep as sweep
    from nann.training._trainable import Scored as Scored
    from nann.training._trainable import Sequential as Sequential
    from nann.training._trainer import train as train
    from nann.training._two_tower import TwoTower as TwoTower
    from nann.training._workers import LostWorkerError as LostWorkerError
    from nann.training._workers import Strategy as Strategy
    from nann.training.trained import TrainedModel as TrainedModel

__getattr__ = lazy_names(
    __name__,
    {
        "nann.training._embed": ("embed",),
        "nann.training._evaluate": ("EvaluateOptions", "Evaluation", "evaluate"),
        "nann.training._mixture": ("MixtureOfLogits",),
        "nann.training._model": ("ModelConfig", "ReferenceModel"),
        "nann.training._sweep": ("Sweep", "SweepPoint", "sweep"),
        "nann.training._networks": ("Networks",),
        "nann.training._options": ("TrainOptions",),
        "nann.training._trainable": ("Scored", "Sequential"),
        "nann.training._trainer": ("train",),
        "nann.training._two_tower": ("TwoTower",),
        "nann.training._workers": ("LostWorkerError", "Strategy"),
        "nann.training.trained": ("TrainedModel",),
    },
)
