"""The page for people, in a browser, and the data that it is made of."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nann.serving.client import NannClient
from support.chromium import Page, find_chromium
from support.tiny_run import N


@pytest.fixture(scope="module")
def server(export_base_path: Path, serve: Callable[..., Any]) -> Any:
    process = serve("--model_name", "nann", "--model_base_path", str(export_base_path))
    yield process.wait_ready()
    process.close()


@pytest.fixture
def page(server: Any) -> Iterator[Page]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: tools/install_system_packages chromium-headless-shell")
    opened = Page(program, width=1280, height=1000)
    opened.call("Page.navigate", url=f"http://{server.rest}/")
    yield opened
    opened.close()


def _get(server: Any, path: str, headers: dict[str, str], method: str = "GET", body: Any = None) -> Any:
    connection = http.client.HTTPConnection(server.rest, timeout=60)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def _texts(page: Page, selector: str) -> list[str]:
    listed = f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.textContent)"
    return page.evaluate(listed)  # type: ignore[no-any-return]


def test_a_retrieval_in_a_browser(server: Any, page: Page, tmp_path: Path) -> None:
    page.wait_for("document.querySelector('#models td') && document.querySelector('[name=item_ids]')")
    assert _texts(page, "#models td")[:3] == ["nann", "1", "AVAILABLE"]
    names = _texts(page, "#signatures td:first-child")
    assert names == ["retrieve", "retrieve_by_ids", "score", "serving_default"]
    page.evaluate("document.querySelector('[name=item_ids]').value = '3, 1, 7'")
    page.evaluate("document.querySelector('[name=cate_ids]').value = '100, 101, 100'")
    page.evaluate("document.querySelector('[name=level_topn]').value = '20, 30, 30, 30, 30, 10'")
    page.evaluate("document.querySelector('#retrieve').click()")
    page.wait_for("document.querySelectorAll('#walk circle').length")
    with NannClient(server.grpc, model="nann") as client:
        beams = [20, 30, 30, 30, 30, 10]
        found = client.top_k_by_ids([3, 1, 7], [100, 101, 100], level_topn=beams)
        first = int(found.ids[0, 0])
        without = client.top_k_by_ids([3, 1, 7], [100, 101, 100], level_topn=beams, exclude_ids=[first])
    assert _texts(page, "#results td:nth-child(2)") == [str(item) for item in found.ids[0]]
    # A title is text, whatever is in it.
    assert _texts(page, "#results td:nth-child(3)")[0] == f"Film <b>{first}</b>"
    shown = [float(score) for score in _texts(page, "#results td:nth-child(4)")]
    np.testing.assert_allclose(shown, found.scores[0], atol=1e-4)
    assert f"the model scored {found.items_scored[0]} of {N}" in _texts(page, "#summary")[0]
    assert len(_texts(page, "#walk circle.result")) == 10
    assert _texts(page, "#walk line.to-result")

    page.evaluate(f"document.querySelector('[name=exclude_ids]').value = '{first}'")
    page.evaluate("document.querySelector('#retrieve').click()")
    page.wait_for(f"document.querySelector('#results td:nth-child(2)').textContent != '{first}'")
    assert _texts(page, "#results td:nth-child(2)") == [str(item) for item in without.ids[0]]
    page.wait_for("document.querySelector('#rate path.a').getAttribute('d').includes('L')")
    page.screenshot(tmp_path / "console.png")
    assert (tmp_path / "console.png").stat().st_size > 20_000
    assert page.problems == []


def test_errors_are_shown(server: Any, page: Page) -> None:
    page.wait_for("document.querySelector('[name=level_topn]')")
    for beams, text in (("20, 10", "level_topn: expected 6 values"), ("20, x", "expected numbers, found x")):
        page.evaluate(f"document.querySelector('[name=level_topn]').value = '{beams}'")
        page.evaluate("document.querySelector('#retrieve').click()")
        page.wait_for(f"document.querySelector('#problem').textContent.includes('{text}')")


def test_the_page_needs_nothing_from_elsewhere_and_runs_its_own_scripts_only(server: Any) -> None:
    status, headers, body = _get(server, "/", {"Accept": "text/html"})
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert b"//" not in body.replace(b"<!doctype html>", b"")
    for name in ("console.css", "console.js", "charts.js", "retrieval.js"):
        status, _, body = _get(server, f"/console/{name}", {})
        assert status == 200
        assert b"://" not in body.replace(b"http://www.w3.org/2000/svg", b"")


def test_a_request_of_no_browser_gets_the_answer_of_the_real_server(server: Any) -> None:
    assert _get(server, "/", {})[0] == 404
    assert _get(server, "/", {"User-Agent": "curl/8"})[0] == 200
    assert _get(server, "/", {"Accept": "*/*"}, "POST")[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/console/model?model=nann", None, 200),
        ("/console/model?model=nann&version=2", None, 404),
        ("/console/model?model=../nann", None, 404),
        ("/console/model?model=nann&version=../1", None, 400),
        ("/console/model", None, 400),
        ("/console/graph?model=nann", "[1", 400),
        ("/console/graph?model=nann", "[1.5]", 400),
        ("/console/graph?model=nann", "[" * 100_000, 400),
        ("/console/graph?model=nann", json.dumps([1] * 5_001), 400),
        ("/console/graph?model=nann", "[]", 200),
        ("/console/graph?model=nann", "[99999999999999999999, -1]", 200),
        ("/console/../index.html", None, 404),
        ("/console/index.html.bak", None, 404),
        ("/console/%2e%2e/_console.py", None, 404),
    ],
)
def test_data_of_the_page(server: Any, path: str, body: Any, status: int) -> None:
    found = _get(server, path, {"Accept": "*/*"}, "GET" if body is None else "POST", body)
    assert found[0] == status, found


def test_links_are_those_of_the_index(server: Any, export_base_path: Path) -> None:
    assets = export_base_path / "1" / "assets"
    ids = np.load(assets / "item_ids.npy")
    splits = np.load(assets / "neighbors_level_0_row_splits.npy")
    neighbors = np.load(assets / "neighbors_level_0_values.npy")[splits[5] : splits[6]]
    asked = [int(ids[5]), *ids[neighbors].tolist(), 10**12]
    _, _, body = _get(server, "/console/graph?model=nann", {}, "POST", json.dumps(asked))
    found = json.loads(body)
    from_first = {end for start, end, level in found["links"] if (start, level) == (str(ids[5]), 0)}
    assert from_first == {str(item) for item in ids[neighbors]}
    entries = set(ids[np.load(assets / "enter_points.npy")].tolist())
    assert set(found["entry_points"]) == {str(item) for item in asked if item in entries}


def test_a_model_that_is_no_export_has_a_page_too(running: Any) -> None:
    status, _, body = _get(running, "/console/model?model=nann", {})
    assert (status, json.loads(body)["manifest"]) == (200, {})
    assert json.loads(_get(running, "/console/graph?model=nann", {}, "POST", "[1000]")[2]) == {
        "entry_points": [],
        "links": [],
    }
    state = json.loads(_get(running, "/console/state", {})[2])
    assert state["models"] == [
        {"name": "nann", "labels": {}, "versions": [{"version": "1", "state": "AVAILABLE", "error": ""}]}
    ]


def test_many_look_at_once(server: Any) -> None:
    answers: list[int] = []

    def look() -> None:
        answers.append(_get(server, "/console/state", {})[0])

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 16
