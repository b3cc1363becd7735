"""Time by part from the op library's counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from nann.bench.load._parts import counters_of_server, parts
from nann.errors import NannError

PAGE = """\
# TYPE :nann:searches counter
:nann:searches{} 12
# TYPE :nann:scorer_micros counter
:nann:scorer_micros{} 34567
:nann:walk_micros 89
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{model_name="nann",status="OK"} 7
nann_items_scored 1000.0
"""


def test_counters_are_read_from_a_prometheus_page(tmp_path: Path) -> None:
    page = tmp_path / "metrics"
    page.write_text(PAGE)
    assert counters_of_server(page.as_uri()) == {
        "/nann/searches": 12,
        "/nann/scorer_micros": 34567,
        "/nann/walk_micros": 89,
        "/nann/items_scored": 1000,
    }


def test_a_page_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NannError, match=r"none: expected a Prometheus page.*--monitoring_config_file"):
        counters_of_server((tmp_path / "none").as_uri())


def test_parts_are_the_times_of_one_search() -> None:
    before = {"/nann/searches": 10, "/nann/scorer_micros": 1000, "/nann/tiles": 5}
    after = {"/nann/searches": 14, "/nann/scorer_micros": 9000, "/nann/walk_micros": 40, "/nann/tiles": 25}
    found = parts(before, after)
    assert found["micros_a_search"] == {"scorer": 2000.0, "walk": 10.0}
    assert found["counters"]["/nann/tiles"] == 20


def test_a_library_that_counts_no_times_gives_no_parts() -> None:
    assert parts({}, {})["micros_a_search"] == {}
    assert parts({"/nann/searches": 1}, {"/nann/searches": 5})["micros_a_search"] == {}
    # Nobody searched in between.
    assert (
        parts({"/nann/walk_micros": 1}, {"/nann/walk_micros": 5, "/nann/searches": 0})["micros_a_search"]
        == {}
    )
