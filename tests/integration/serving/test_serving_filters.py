"""Filters served: gRPC, REST, shards, requests that are joined, `nann query`, and what is refused."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.errors import InvalidInputError
from nann.export import ExportOptions, Tuning, export_model, export_shards
from nann.serving.client import NannClient, RequestRejectedError, RowsRejectedError, ShardedClient
from support.tiny_model import E, L
from support.tiny_run import write_run

N = 900
BEAMS = [20, 30, 30, 30, 30, 10]
WHERE = "price < 40 AND NOT 'sale' = ANY(tags)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("filters") / "run", items=N)
    ids = np.load(folder / "embeddings/item_ids.npy")
    tags = [["sale", "new"] if item % 2 else ["new"] for item in ids]
    table = {"item_id": ids, "price": (ids % 100).astype(np.float32), "tags": tags}
    pq.write_table(pa.table(table), folder / "attributes.parquet")
    return folder


@pytest.fixture(scope="module")
def passing(run: Path) -> set[int]:
    """Ids of the items that pass `WHERE`."""
    return {
        int(item) for item in np.load(run / "embeddings/item_ids.npy") if item % 100 < 40 and not item % 2
    }


@pytest.fixture(scope="module")
def models(run: Path) -> Path:
    options = ExportOptions(level_topn=BEAMS, tuning=Tuning(walk="adaptive"))
    result = export_model(run, run.parent / "whole/1", options)
    assert "retrieve_by_ids_where" in result["verified"]["signatures"]
    export_shards(run, run.parent / "shard/1", options, shards=2, threads=1)
    return run.parent


@pytest.fixture(scope="module")
def address(models: Path, serve: Callable[..., Any]) -> Iterator[Any]:
    server = serve("--model_name", "nann", "--model_base_path", str(models / "whole"))
    yield server.wait_ready()
    server.close()


@pytest.fixture(scope="module")
def users() -> Any:
    return np.random.default_rng(0).normal(size=(3, L, E)).astype(np.float32)


def test_results_satisfy_the_filter(address: Any, users: Any, passing: set[int]) -> None:
    with NannClient(address.grpc, model="nann", timeout=60) as client:
        found = client.top_k(users, BEAMS, where=WHERE)
        np.testing.assert_array_equal(found.passing, [len(passing)] * 3)
        assert found.exact.all()
        assert set(found.ids.flat) <= passing
        scores = client.score(users, sorted(passing))
        np.testing.assert_allclose(found.scores, np.sort(scores)[:, ::-1][:, :10], rtol=1e-5)
        rest = client.top_k(users, BEAMS, where=WHERE, exclude_ids=found.ids[:, :4])
        np.testing.assert_array_equal(rest.ids[:, :6], found.ids[:, 4:])
        np.testing.assert_array_equal(rest.passing, found.passing)
        mixed = client.top_k(users, BEAMS, where=["", WHERE, "price = -1"])
        np.testing.assert_array_equal(mixed.passing, [N, len(passing), 0])
        np.testing.assert_array_equal(mixed.ids[0], client.top_k(users, BEAMS).ids[0])
        np.testing.assert_array_equal(mixed.ids[1], found.ids[1])
        assert (mixed.ids[2] == -1).all()
        by_ids = client.top_k_by_ids([3, 1, 7], [100, 101, 100], level_topn=BEAMS, where=WHERE)
        assert set(by_ids.ids.flat) <= passing


def test_a_filter_that_is_not_valid_is_refused_with_its_column(address: Any, users: Any) -> None:
    with NannClient(address.grpc, model="nann", timeout=60) as client:
        with pytest.raises(RequestRejectedError, match=r"filter, column 9: .*found the end") as refused:
            client.top_k(users[:1], BEAMS, where="price <=")
        assert refused.value.code == "INVALID_ARGUMENT"
        with pytest.raises(RequestRejectedError, match=r"prize.*price"):
            client.top_k(users[:1], BEAMS, where="prize < 4")
        with pytest.raises(RowsRejectedError, match=r"row 1: filter: .*'prize < 4'") as rows:
            client.top_k(users, BEAMS, where=[WHERE, "prize < 4", ""])
        assert rows.value.rows == (1,)
        assert (rows.value.result.ids[0] >= 0).any()
        with pytest.raises(InvalidInputError, match=r"where: expected a filter .* each of 3 users"):
            client.top_k(users, BEAMS, where=[WHERE, WHERE])
        with pytest.raises(InvalidInputError, match=r"no signature 'retrieve' .*attributes\.parquet"):
            client.top_k(users, BEAMS, where=WHERE, signature="retrieve")


def test_rest_takes_filters(address: Any, users: Any, passing: set[int]) -> None:
    def ask(where: str) -> Any:
        row = {
            "comm_seq": users[0].ravel().tolist(),
            "level_topn": BEAMS,
            "exclude_ids": [-1],
            "filter": where,
        }
        body = json.dumps({"signature_name": "retrieve_where", "instances": [row]}).encode()
        url = f"http://{address.rest}/v1/models/nann:predict"
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60) as response:
            return json.load(response)["predictions"][0]

    answer = ask(WHERE)
    assert set(answer["top_k"]) <= passing
    assert (answer["passing"], answer["exact"]) == (len(passing), True)
    with pytest.raises(urllib.error.HTTPError) as error:
        ask("price ! 3")
    assert error.value.code == 400
    assert "filter, column 7" in json.load(error.value)["error"]


def test_requests_with_different_filters_are_joined(
    models: Path, serve: Callable[..., Any], users: Any, passing: set[int], tmp_path: Path
) -> None:
    batching = tmp_path / "batching.config"
    # No batch runs before it is full, so that the three requests share one.
    batching.write_text(
        "max_batch_size { value: 3 } batch_timeout_micros { value: 60000000 } "
        "pad_variable_length_inputs: true"
    )
    server = serve(
        *("--model_name", "nann", "--model_base_path", str(models / "whole"), "--enable_model_warmup=false"),
        *("--enable_batching", f"--batching_parameters_file={batching}"),
    ).wait_ready()
    texts = [WHERE, "price <", "price = 3"]
    with NannClient(server.grpc, model="nann", timeout=60) as client, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.top_k, users[row], BEAMS, where=texts[row]) for row in range(3)]
        with pytest.raises(RowsRejectedError, match=r"row 0: filter: .*'price <'"):
            asked[1].result()
        assert set(asked[0].result().ids.flat) <= passing
        assert {int(item) % 100 for item in asked[2].result().ids.flat if item >= 0} == {3}
    server.close()


def test_each_shard_gets_the_filter(
    models: Path, serve: Callable[..., Any], users: Any, passing: set[int], address: Any
) -> None:
    servers = [
        serve("--model_name", "nann", "--model_base_path", str(models / f"shard-{shard}-of-2"))
        for shard in range(2)
    ]
    with ShardedClient([server.wait_ready().grpc for server in servers], timeout=60) as sharded:
        found = sharded.top_k(users, BEAMS, where=WHERE)
    with NannClient(address.grpc, model="nann", timeout=60) as client:
        whole = client.top_k(users, BEAMS, where=WHERE)
    np.testing.assert_array_equal(found.ids, whole.ids)
    np.testing.assert_array_equal(found.passing, [len(passing)] * 3)
    assert found.exact.all()
    for server in servers:
        server.close()


def test_nann_query_takes_a_filter(address: Any, passing: set[int]) -> None:
    command = ["query", "--target", address.grpc, "--level-topn", ",".join(map(str, BEAMS)), "--where", WHERE]
    command += ["--item-ids", "3,1,7", "--cate-ids", "100,101,100"]
    as_json = CliRunner().invoke(main, [*command, "--json"])
    (user,) = json.loads(as_json.stdout)["users"]
    assert set(user["ids"]) <= passing
    assert (user["passing"], user["exact"]) == (len(passing), True)
    assert f"{len(passing)} items pass the filter; all of them were scored" in CliRunner().invoke(
        main, command
    ).output.replace("\n", " ")
