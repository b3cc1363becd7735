"""All operations of TensorFlow that have a form of ours; where several modules know one, the last does."""

from __future__ import annotations

from collections.abc import Callable

from nann.export.scorer._import_choices import CHOICES
from nann.export.scorer._import_conv import CONVOLUTIONS
from nann.export.scorer._import_doubles import DOUBLES
from nann.export.scorer._import_functions import FUNCTIONS
from nann.export.scorer._import_gradients import GRADIENTS
from nann.export.scorer._import_images import IMAGES
from nann.export.scorer._import_integers import INTEGERS
from nann.export.scorer._import_lists import LISTS
from nann.export.scorer._import_matrices import MATRICES
from nann.export.scorer._import_moves import MOVES
from nann.export.scorer._import_nd import ND
from nann.export.scorer._import_norms import NORMS
from nann.export.scorer._import_ops import IMPORTS, Found, Reading
from nann.export.scorer._import_pooling import POOLINGS
from nann.export.scorer._import_powers import POWERS
from nann.export.scorer._import_ranks import RANKS
from nann.export.scorer._import_scans import SCANS
from nann.export.scorer._import_user_places import USER_PLACES

FORMS: dict[str, Callable[[Reading], Found]] = {
    **IMPORTS, **MOVES, **CHOICES, **SCANS, **FUNCTIONS, **INTEGERS, **LISTS, **CONVOLUTIONS,
    **POOLINGS, **ND, **DOUBLES, **POWERS, **USER_PLACES, **IMAGES, **MATRICES, **RANKS, **GRADIENTS, **NORMS,
}  # fmt: skip
