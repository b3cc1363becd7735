"""The steps of `nann demo`, from data to served answers: each one is a call of the library."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import NannError
from nann.files import write_json
from nann.progress import OnProgress
from nann.serving.client import NannClient
from nann.training import Dataset, Evaluation

SOURCE = "recbole:ml-100k"
# The corpus has only 1,682 items: with the default M and beams a walk would score nearly all of them. With
# M = 4 one node in 16 is on level 2, which makes about a hundred entry points.
M = 4
EF_CONSTRUCTION = 200
# A demo should be short: 6 epochs reach a recall@50 of 0.485, the default's 16 reach 0.521 in twice the time.
EPOCHS = 6
K = 50
SHOWN_USERS = 3
TIMED_REQUESTS = 200

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ShownUser:
    """One real user: ids as in the data, oldest first; retrieved ids, best first."""

    user_id: int
    item_ids: Array
    cate_ids: Array
    next_item: int
    retrieved: Array


@dataclass(frozen=True)
class DemoResult:
    """The demo's results; latencies in milliseconds for requests of one user."""

    model_dir: Path
    evaluation: Evaluation
    p50_ms_in_process: float
    p50_ms_grpc: float
    users: tuple[ShownUser, ...]
    titles: dict[int, str]

    def to_json(self) -> dict[str, Any]:
        """The content of `RUN/demo.json`."""
        found = self.evaluation
        return {
            "agreement_at_50": found.agreement,
            "recall_at_50_walk": found.recall_walk,
            "recall_at_50_brute_force": found.recall_brute_force,
            "recall_at_50_popularity": found.recall_popularity,
            "recall_ratio_walk_popularity": found.ratio,
            "recall_ratio_interval_95": [found.ratio_low, found.ratio_high],
            "users": found.users,
            "items": found.items,
            "items_scored_mean": found.items_scored_mean,
            "level_topn": list(found.level_topn),
            "p50_ms_in_process": self.p50_ms_in_process,
            "p50_ms_grpc": self.p50_ms_grpc,
            "model": str(self.model_dir),
            "shown_users": [self._shown(user) for user in self.users],
        }

    def _shown(self, user: ShownUser) -> dict[str, Any]:
        return {
            "user_id": user.user_id,
            "watched": [self.titles[i] for i in user.item_ids[-5:].tolist()],
            "retrieved": [self.titles[i] for i in user.retrieved[:5].tolist()],
        }


def run_demo(run_dir: Path, on_progress: OnProgress) -> DemoResult:
    """Run all steps in `run_dir`, from data to queries.

    Writes `run_dir/demo.json`, and the export to `run_dir/models/nann/1`.
    """
    from nann.export import ExportOptions, Tuning, build_index, export_model, verify_model
    from nann.training import EvaluateOptions, TrainOptions, embed, evaluate, prepare_data, train

    data_dir, model_dir = run_dir / "data", run_dir / "models" / "nann" / "1"
    dataset = prepare_data(SOURCE, data_dir, overwrite=True)
    train(data_dir, run_dir, TrainOptions(epochs=EPOCHS), on_progress=on_progress)
    embed(run_dir, on_progress=on_progress)
    # One thread makes the same graph in every run.
    build_index(
        run_dir,
        m=M,
        ef_construction=EF_CONSTRUCTION,
        threads=1,
        on_progress=on_progress,
    )
    # Scoring all of so few items may be as fast, which `nann export` would then do: the demo shows a walk.
    export_options = ExportOptions(tuning=Tuning(walk="proxy"))
    export_model(run_dir, model_dir, export_options, overwrite=True, on_progress=on_progress)
    verify_model(model_dir, run_dir=run_dir, on_progress=on_progress)
    options = EvaluateOptions(model_dir=model_dir, k=K, brute_force=True, max_users=0)
    evaluation = evaluate(run_dir, options, on_progress=on_progress)

    beams = list(evaluation.level_topn)
    states = _user_states(run_dir, dataset, TIMED_REQUESTS)
    in_process = _p50_ms_in_process(model_dir, states, beams)
    with _server(model_dir.parent) as address, NannClient(address, model="nann") as client:
        client.wait_ready(60.0)
        users = tuple(_query(client, dataset, user, beams) for user in range(SHOWN_USERS))
        over_grpc = _p50_ms(lambda state: client.top_k(state, beams, timeout=10.0), states)
    result = DemoResult(model_dir, evaluation, in_process, over_grpc, users, dict(dataset.titles))
    write_json(run_dir / "demo.json", result.to_json())
    return result


def _user_states(run_dir: Path, dataset: Dataset, count: int) -> Array:
    """`comm_seq` of the first users before their last event, float16 [count, L, E]."""
    from nann.run import load_model
    from nann.training.ranking import states_before_last_event

    users = np.arange(min(count, dataset.num_users))
    states = states_before_last_event(load_model(run_dir), dataset, users)
    return np.stack([state["comm_seq"].numpy() for state in states]).astype(np.float16)


def _p50_ms_in_process(model_dir: Path, states: Array, level_topn: list[int]) -> float:
    """The median time of a request to the export in this process."""
    from nann.export.loaded import LoadedModel

    beams = np.array(level_topn, np.int32)
    with LoadedModel(model_dir) as model:
        return _p50_ms(
            lambda state: model.run(
                "serving_default", {"comm_seq": state.reshape(1, -1), "level_topn": beams}
            ),
            states,
        )


def _p50_ms(search: Callable[[Array], object], states: Array) -> float:
    """The median time of a request, one at a time, after some requests to warm up."""
    for state in states[:20]:
        search(state)
    millis = []
    for state in states:
        started = time.perf_counter()
        search(state)
        millis.append(1e3 * (time.perf_counter() - started))
    return float(np.median(millis))


@contextmanager
def _server(base_path: Path) -> Iterator[str]:
    """Run `nann serve` in its own process, on free ports; yields its gRPC address."""
    command = [sys.executable, "-m", "nann", "serve", "--json", "--host", "127.0.0.1"]
    command += ["--model_name", "nann", "--model_base_path", str(base_path)]
    command += ["--port", "0", "--rest_api_port", "0"]
    log_path = base_path.parent / "serve.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()  # One line when it serves; empty when it ended.
        if not ready:
            raise NannError(f"nann serve ended with exit code {process.wait()}: see {log_path}.")
        yield json.loads(ready)["grpc"]
    finally:
        process.terminate()
        process.wait()


def _query(client: NannClient, dataset: Dataset, user: int, level_topn: list[int]) -> ShownUser:
    """Ask for a user's next items by ids of the data set, without the items that the user has seen."""
    seen = dataset.seen(user)
    item_ids = dataset.item_ids[seen - 1]
    cate_ids = dataset.cate_ids[dataset.item_cates[seen] - 1]
    width = 50  # The model's sequence length: a request holds no older events.
    found = client.top_k_by_ids(
        item_ids[-width:],
        cate_ids[-width:],
        level_topn=level_topn,
        exclude_ids=[item_ids.tolist()],
        timeout=10.0,
    )
    next_item = int(dataset.item_ids[dataset.target(user) - 1])
    return ShownUser(int(dataset.user_ids[user]), item_ids, cate_ids, next_item, found.ids[0])
