"""Requests from files, and made-up ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nann.bench.requests import InputSpec, generate_requests, read_npz, read_prediction_logs
from nann.errors import InvalidFileError, InvalidInputError

I32, I64 = np.dtype(np.int32), np.dtype(np.int64)
RETRIEVE = {
    "comm_seq": InputSpec(np.dtype(np.float32), (-1, 40)),
    "level_topn": InputSpec(I32, (-1, -1)),
    "exclude_ids": InputSpec(I64, (-1, -1)),
}
DEFAULT = {
    "comm_seq": InputSpec(np.dtype(np.float16), (-1, 40)),
    "level_topn": InputSpec(I32, (-1,)),
}
BY_IDS = {
    "item_ids": InputSpec(I64, (-1, 5)),
    "level_topn": InputSpec(I32, (-1, -1)),
    "exclude_ids": InputSpec(I64, (-1, -1)),
}


def save(tmp_path: Path, **arrays: object) -> Path:
    path = tmp_path / "requests.npz"
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


def test_a_row_of_an_npz_is_a_request(tmp_path: Path) -> None:
    states = np.random.default_rng(0).normal(size=(3, 5, 8))
    path = save(tmp_path, comm_seq=states, level_topn=[[9, 8], [7, 6], [5, 4]])
    requests = read_npz(path, RETRIEVE, "retrieve", [1, 1])
    assert len(requests) == 3
    assert requests[1].inputs["comm_seq"].dtype == np.float32
    np.testing.assert_array_equal(requests[1].inputs["comm_seq"], states[1].reshape(1, 40).astype(np.float32))
    assert requests[1].inputs["level_topn"].tolist() == [[7, 6]]
    assert requests[1].inputs["exclude_ids"].tolist() == [[-1]]


def test_beams_of_an_npz_may_be_one_row_for_all_or_none(tmp_path: Path) -> None:
    path = save(tmp_path, comm_seq=np.zeros((2, 40)), level_topn=[3, 4])
    assert [r.inputs["level_topn"].tolist() for r in read_npz(path, DEFAULT, "serving_default", None)] == [
        [3, 4]
    ] * 2
    path = save(tmp_path, comm_seq=np.zeros((2, 40)))
    found = read_npz(path, RETRIEVE, "retrieve", [5, 6])
    assert [request.inputs["level_topn"].tolist() for request in found] == [[[5, 6]]] * 2
    assert found[0].inputs["level_topn"].dtype == np.int32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"comm_seq": np.zeros((2, 40)), "other": np.zeros(2)}, "expected inputs of retrieve.*'other'"),
        ({"exclude_ids": np.zeros((2, 1))}, r"found no \['comm_seq'\]"),
        ({"comm_seq": np.zeros((2, 40)), "exclude_ids": np.zeros((3, 1))}, "one row per request"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidFileError, match=message):
        read_npz(save(tmp_path, **arrays), RETRIEVE, "retrieve", [1])


def test_files_that_are_no_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="no such file"):
        read_npz(tmp_path / "none.npz", RETRIEVE, "retrieve", [1])
    path = tmp_path / "text"
    path.write_text("these are no TFRecords at all")
    with pytest.raises(InvalidFileError, match="expected TFRecords"):
        read_prediction_logs(path)


def test_warm_up_requests_are_requests(tmp_path: Path) -> None:
    from nann.export._samples import Sample
    from nann.export._warmup import WARMUP, write_warmup

    state = {"comm_seq": np.random.default_rng(0).normal(size=(1, 5, 8)).astype(np.float32)}
    sample = Sample({"item_ids": np.arange(5)[np.newaxis]}, state)
    write_warmup(tmp_path, "nann", sample, [3, 2], item_id=7, max_work=10)
    logged = read_prediction_logs(tmp_path / WARMUP)
    # Searches also come with the two output filters.
    assert len(logged) == 3 * 3 + 1
    requests = {request.signature: request for request in logged}
    assert sorted(requests) == ["retrieve", "retrieve_by_ids", "score", "serving_default"]
    assert requests["serving_default"].inputs["comm_seq"].shape == (2, 40)
    assert requests["serving_default"].inputs["comm_seq"].dtype == np.float16
    np.testing.assert_array_equal(requests["retrieve"].inputs["comm_seq"], state["comm_seq"].reshape(1, -1))
    assert requests["retrieve_by_ids"].inputs["item_ids"].tolist() == [[0, 1, 2, 3, 4]]
    write_warmup(tmp_path, "nann", sample, [3, 2], item_id=7, max_work=9)
    signatures = {request.signature for request in read_prediction_logs(tmp_path / WARMUP)}
    assert signatures == {"retrieve", "retrieve_by_ids", "score"}


def test_made_up_requests_fit_the_signature() -> None:
    vocabularies = {"item_ids": np.array([10, 20, 30])}
    for specs in (RETRIEVE, DEFAULT, BY_IDS):
        requests = generate_requests(specs, "s", [3, 2], count=4, seed=0, vocabularies=vocabularies, users=2)
        for request in requests:
            assert request.users == 2
            for name, spec in specs.items():
                array = request.inputs[name]
                assert (array.dtype, array.ndim) == (spec.dtype, len(spec.shape)), name
    assert set(requests[0].inputs["item_ids"].ravel().tolist()) <= {10, 20, 30}
    again = generate_requests(BY_IDS, "s", [3, 2], count=4, seed=0, vocabularies=vocabularies, users=2)
    np.testing.assert_array_equal(again[3].inputs["item_ids"], requests[3].inputs["item_ids"])


def test_ids_are_not_made_up_without_a_vocabulary() -> None:
    with pytest.raises(InvalidInputError, match=r"cannot make up input item_ids.*--model-dir"):
        generate_requests(BY_IDS, "retrieve_by_ids", [3, 2], count=1, seed=0, vocabularies={})


def test_other_beams_keep_the_rest_of_a_request() -> None:
    for specs, expected in ((RETRIEVE, [[9, 8, 7]] * 2), (DEFAULT, [9, 8, 7])):
        request = generate_requests(specs, "s", [3, 2], count=1, seed=0, vocabularies={}, users=2)[0]
        other = request.with_beams([9, 8, 7])
        assert other.inputs["level_topn"].tolist() == expected
        assert other.inputs["comm_seq"] is request.inputs["comm_seq"]
        assert request.inputs["level_topn"].ravel().tolist()[:2] == [3, 2]
