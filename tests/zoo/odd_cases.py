"""All odd cases: tiny models, and the kind of answer that their authors are owed."""

from __future__ import annotations

from zoo import odd_runs, odd_scores, odd_users, odd_users_together  # noqa: F401  They register their cases.
from zoo.odd import ODD_CASES as ODD_CASES
