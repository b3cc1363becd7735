"""The scorer: traced and frozen, taken apart by what its operations depend on, and given to an executor."""

from nann.export.scorer._effects import effects_of as effects_of
from nann.export.scorer._effects import effects_of_operation as effects_of_operation
from nann.export.scorer._ir import NotSplittableError as NotSplittableError
from nann.export.scorer._lowering import PROGRAM_TYPES as PROGRAM_TYPES
from nann.export.scorer._lowering import NotLowerableError as NotLowerableError
from nann.export.scorer._parts import ITEM_EMBS as ITEM_EMBS
from nann.export.scorer._parts import ITEM_ROWS as ITEM_ROWS
from nann.export.scorer._parts import SCORER_TABLE as SCORER_TABLE
from nann.export.scorer._report import SplitReport as SplitReport
from nann.export.scorer.scorer import Scorer as Scorer
from nann.export.scorer.scorer import choose_executor as choose_executor
from nann.export.scorer.scorer import freeze_scorer as freeze_scorer
from nann.export.scorer.scorer import jit_scorer as jit_scorer
from nann.export.scorer.scorer import runs_natively as runs_natively
from nann.export.scorer.scorer import split_scorer as split_scorer
from nann.export.scorer.scorer import with_encoder as with_encoder
from nann.export.scorer.split import SplitScorer as SplitScorer
from nann.export.scorer.split import split_function as split_function
