"""Whose requests an export is tuned by: those of a file, those that the run has, or made-up ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidFileError, NannError
from nann.export import ExportOptions, Tuning, export_model, export_vectors
from nann.export._samples import Sample
from nann.export._users import Users, gather_users, known_users, rows_of
from nann.export._warmup import write_warmup
from nann.run.guard import guarded
from support.tiny_model import CATES, ITEMS, E, L, TinyModel
from support.tiny_run import write_run

VOCABULARIES = {
    "item_ids": np.arange(ITEMS, dtype=np.int64) * 2 + 1,
    "cate_ids": np.arange(CATES, dtype=np.int64) + 100,
}


def features(users: int) -> dict[str, Any]:
    """Ids that are in the vocabularies, unknown ones and missing events."""
    random = np.random.default_rng(5)
    return {
        "item_ids": random.choice([0, 2, *VOCABULARIES["item_ids"]], (users, L)),
        "cate_ids": random.choice([0, 7, *VOCABULARIES["cate_ids"]], (users, L)),
    }


def gathered(path: Path | None, count: int = 100) -> Users:
    return gather_users(TinyModel(), VOCABULARIES, path, count=count)


def states(users: Users) -> set[bytes]:
    return {row.astype(np.float16).tobytes() for row in users.sample.state["comm_seq"]}


def expected_states(values: dict[str, Any]) -> set[bytes]:
    rows = {name: rows_of(ids, VOCABULARIES[name]) for name, ids in values.items()}
    return {row.astype(np.float16).tobytes() for row in TinyModel().embed_user(rows)["comm_seq"].numpy()}


def test_users_come_from_arrays_of_features(tmp_path: Path) -> None:
    values = features(30)
    np.savez(tmp_path / "requests.npz", **values, level_topn=np.ones(6, np.int32))
    users = gathered(tmp_path / "requests.npz")
    assert users.sample.users == 30
    assert states(users) == expected_states(values)
    assert gathered(tmp_path / "requests.npz", count=4).sample.users == 4


@pytest.mark.parametrize("shape", [(9, L, E), (9, L * E)])
def test_users_come_from_arrays_of_states(tmp_path: Path, shape: tuple[int, ...]) -> None:
    state = np.random.default_rng(1).normal(size=shape).astype(np.float16)
    np.savez(tmp_path / "requests.npz", comm_seq=state)
    users = gathered(tmp_path / "requests.npz")
    assert states(users) == {row.tobytes() for row in state}
    assert users.sample.state["comm_seq"].shape == (9, L, E)


@pytest.mark.parametrize("by_ids", [False, True])
def test_users_come_from_a_log_of_requests(tmp_path: Path, by_ids: bool) -> None:
    """The log holds what servers log: requests of several signatures, of one user each."""
    values = features(6)
    state = TinyModel().embed_user({n: rows_of(v, VOCABULARIES[n]) for n, v in values.items()})
    sample = Sample(values if by_ids else None, {"comm_seq": state["comm_seq"].numpy()})
    with tf.io.TFRecordWriter(str(tmp_path / "log")) as writer:
        for user in range(6):
            one = sample.part(slice(user, user + 1))
            # Without work that is allowed, `serving_default`, which has many users, is left out.
            write_warmup(tmp_path, "nann", one, [3, 3, 3, 3, 3, 2], item_id=1, max_work=0)
            for record in tf.data.TFRecordDataset(str(tmp_path / "assets.extra/tf_serving_warmup_requests")):
                writer.write(record.numpy())
    users = gathered(tmp_path / "log")
    # `retrieve` with each output filter, and `score`.
    assert users.sample.users == 24
    assert states(users) == expected_states(values)


def test_groups_of_users_are_disjoint_and_shrink_alike() -> None:
    users = Users(Sample(None, {"comm_seq": np.arange(12.0).reshape(12, 1)}), None)
    sizes = [group.users for group in users.groups([8, 8, 8])]
    assert sizes == [4, 4, 4]
    first, second = users.groups([3, 5])
    assert (first.users, second.users) == (3, 5)
    assert not set(first.state["comm_seq"].flat) & set(second.state["comm_seq"].flat)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"expected a file of requests, found none"),
        (b"no record at all", r"expected an \.npz file or a TFRecord of PredictionLog"),
        (b"", r"expected predict requests with item_ids, cate_ids or comm_seq, found none"),
        ({"item_ids": np.zeros((4, L), np.int64)}, r"item_ids, cate_ids or comm_seq, found item_ids\."),
        (
            {"comm_seq": np.zeros((4, L), np.float32)},
            r"comm_seq: expected float32 \[users, 5, 8\], found float32",
        ),
        ({"comm_seq": np.zeros((1, L, E), np.float32)}, r"expected at least 2 users, found 1"),
        ({"comm_seq": np.full((4, L, E), "a")}, r"comm_seq: expected float32 \[users, 5, 8\], found str"),
        ({"comm_seq": np.array([{}], object)}, r"expected an \.npz file of arrays without Python objects"),
        (
            {"item_ids": np.zeros((4, L), np.int64), "cate_ids": np.zeros((5, L), np.int64)},
            r"expected as many users in each array, found 4 in item_ids, 5 in cate_ids",
        ),
    ],
)
def test_files_that_hold_no_users_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "requests.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    with pytest.raises(InvalidFileError, match=message):
        gathered(path)


def test_users_whose_rows_the_model_does_not_have_are_refused_with_their_file(tmp_path: Path) -> None:
    """Without a vocabulary an integer is the row itself, and the table ends before 99."""
    np.savez(tmp_path / "requests.npz", **{**features(4), "cate_ids": np.full((4, L), 99)})
    vocabularies = {"item_ids": VOCABULARIES["item_ids"]}
    with pytest.raises(InvalidFileError, match=r"requests\.npz: expected users .* 99 is not in \[0, 8\)"):
        gather_users(guarded(TinyModel()), vocabularies, tmp_path / "requests.npz", count=4)


def test_an_export_says_whose_requests_it_was_tuned_by(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert export_model(run, tmp_path / "m/1")["calibration"]["source"] is None
    np.savez(run / "requests.npz", **features(20))
    of_run = export_model(run, tmp_path / "m/2", ExportOptions(reorder=True))["calibration"]
    assert (of_run["source"], of_run["users"], of_run["tuned_on"]) == ("requests.npz", 10, 10)
    np.savez(tmp_path / "more.npz", **features(50))
    options = ExportOptions(requests=tmp_path / "more.npz", tuning=Tuning(users=20))
    named = export_model(run, tmp_path / "m/3", options)["calibration"]
    assert (named["source"], named["users"], named["tuned_on"]) == ("more.npz", 20, 20)
    manifest = json.loads((tmp_path / "m/3/assets.extra/nann_manifest.json").read_text())
    assert manifest["scorer"]["calibration"]["source"] == "more.npz"


def test_an_export_of_vectors_is_tuned_by_queries(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    np.save(tmp_path / "items.npy", random.normal(size=(3000, 8)).astype(np.float32))
    np.savez(tmp_path / "queries.npz", query_emb=random.normal(size=(40, 8)).astype(np.float32))
    options = ExportOptions(requests=tmp_path / "queries.npz", tuning=Tuning(walk="adaptive"))
    found = export_vectors(tmp_path / "items.npy", tmp_path / "m/1", options)["calibration"]
    assert (found["source"], found["users"], found["walk"]) == ("queries.npz", 20, "adaptive")
    assert found["agreement"] >= 0.95


def test_sample_users_are_those_of_the_file_and_every_second_lacks_events(tmp_path: Path) -> None:
    values = {name: ids + 2 * (ids == 0) for name, ids in features(30).items()}  # Nothing is missing.
    np.savez(tmp_path / "requests.npz", **values)
    sample = known_users(TinyModel(), VOCABULARIES, tmp_path / "requests.npz", count=4)
    assert sample.features is not None
    asked = {tuple(row) for row in values["item_ids"]}
    found, missing = sample.features["item_ids"], sample.features["item_ids"] == 0
    assert [tuple(row) in asked for row in found] == [True, False, True, False]
    assert missing[1::2].any(axis=1).all()
    np.testing.assert_array_equal(missing, sample.features["cate_ids"] == 0)
    assert (sample.state["comm_seq"][missing] == 0).all()


def test_sample_users_are_made_up_where_the_file_has_no_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "requests.npz", comm_seq=np.ones((9, L, E), np.float16))
    of_file = known_users(TinyModel(), VOCABULARIES, tmp_path / "requests.npz", count=2)
    made_up = known_users(TinyModel(), VOCABULARIES, None, count=2)
    assert of_file.features is not None
    np.testing.assert_array_equal(of_file.state["comm_seq"], made_up.state["comm_seq"])


class TimedModel(TinyModel):
    """Its scores are numbers for times after 1000 alone, as those of real requests are."""

    user_features = {**TinyModel.user_features, "now": tf.TensorSpec([], tf.float32)}  # noqa: RUF012
    user_state = {**TinyModel.user_state, "now": tf.TensorSpec([], tf.float32)}  # noqa: RUF012

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        return {**super().embed_user(features), "now": features["now"]}

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return super().score(user_state, item_embs) + tf.math.log(user_state["now"] - 1000.0)


def test_a_model_that_takes_real_users_only_is_verified_with_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(NannError, match="score"):
        export_model(run, tmp_path / "m/1", model=TimedModel())
    np.savez(run / "requests.npz", **features(20), now=np.linspace(1001, 1100, 20, dtype=np.float32))
    assert export_model(run, tmp_path / "m/1", model=TimedModel())["verified"]
