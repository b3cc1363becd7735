"""All odd cases: tiny models, and the kind of answer that their authors are owed."""

from __future__ import annotations

# They register their cases when they are imported.
from zoo import odd_names, odd_runs, odd_scores, odd_users, odd_users_together  # noqa: F401
from zoo.odd import ODD_CASES as ODD_CASES
