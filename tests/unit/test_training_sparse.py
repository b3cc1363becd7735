"""Made-up data of short histories."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nann.errors import InvalidInputError
from nann.training import Dataset, SparseOptions, load_source
from nann.training import _sparse as module


def _of_users(data: Dataset) -> list[list[int]]:
    return [part.tolist() for part in np.split(data.events, data.row_splits[1:-1])]


def test_sparse_data_depend_on_nothing_but_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "synthetic-sparse:items=400,users=300,events=8,seed={}"
    first, again, other = (load_source(text.format(seed)) for seed in (4, 4, 5))
    assert first.events.tolist() == again.events.tolist()
    assert first.events.tolist() != other.events.tolist()
    assert (first.num_items, first.num_users) == (400, 300)
    monkeypatch.setattr(module, "_BLOCK_USERS", 100)
    assert load_source(text.format(4)).num_users == 300, "in three blocks"


def test_no_user_meets_an_item_twice_or_has_too_few() -> None:
    data = load_source("synthetic-sparse:items=200,users=500,events=10,categories=4,seed=1")
    for events in _of_users(data):
        assert len(set(events)) == len(events) >= 3
    assert data.lengths.mean() == pytest.approx(10, abs=1)


def test_items_follow_each_other_and_popularity_has_a_long_tail() -> None:
    data = load_source("synthetic-sparse:items=2000,users=4000,events=8,follow=0.5,interest=0.3,seed=2")
    pairs: dict[int, dict[int, int]] = {}
    for events in _of_users(data):
        for last, following in itertools.pairwise(events):
            found = pairs.setdefault(last, {})
            found[following] = found.get(following, 0) + 1
    # Half of all steps go to one of three followers of the last item; a few of these were met before.
    top = sum(sum(sorted(found.values())[-3:]) for found in pairs.values() if sum(found.values()) >= 30)
    steps = sum(sum(found.values()) for found in pairs.values() if sum(found.values()) >= 30)
    assert 0.4 < top / steps < 0.65
    counts = np.sort(data.item_counts[1:])[::-1]
    assert counts[:200].sum() > 0.3 * counts.sum(), "a tenth of the items"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item=3", "expected options items, users.*found 'item'"),
        ("items=many", "expected int, found 'many'"),
        ("items=100,events=8", "at least 20 times the events"),
        ("follow=0.7,interest=0.7", "sum at most 1"),
        ("events=3", "events of 4 and above"),
    ],
)
def test_sparse_options_out_of_range_are_refused(text: str, expected: str) -> None:
    with pytest.raises(InvalidInputError, match=f"source synthetic-sparse: .*{expected}"):
        SparseOptions.parse(text)
