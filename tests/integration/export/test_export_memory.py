"""A big corpus, its item table and a big user table go into an export without a copy in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_EXPORT = """
import json, sys, threading
from pathlib import Path
import numpy as np
import tensorflow as tf
from nann.export import ExportOptions, Tuning, export_model
from nann.export import GraphIndex, Level, write_index
from nann.ops import IndexMeta

tf.config.threading.set_intra_op_parallelism_threads(2)  # Each thread has memory of its own.
ITEMS, D, NEIGHBORS = 1_000_000, 64, 8
folder = Path(sys.argv[1])
random = np.random.default_rng(0)
for name in ("embeddings", "vocabulary"):
    (folder / name).mkdir(parents=True)
ids = np.arange(1, ITEMS + 1)
np.save(folder / "embeddings/item_ids.npy", ids)
np.save(folder / "vocabulary/item_ids.npy", ids)
np.save(folder / "embeddings/item_embs.npy", random.standard_normal((ITEMS, D), dtype=np.float32))
level = Level(
    random.integers(0, ITEMS, ITEMS * NEIGHBORS, dtype=np.int32),
    np.arange(0, ITEMS * NEIGHBORS + 1, NEIGHBORS),
)
meta = IndexMeta(1, ITEMS, D, "l2", 4, 40, 1, (3,))
write_index(folder / "index", GraphIndex(meta, np.arange(100, dtype=np.int32), (level,)))
(folder / "run.json").write_text(json.dumps({"format": 1, "model": "not:needed"}))
del level, ids


class Model:
    user_features = {"item_ids": tf.TensorSpec([3], tf.int64)}
    user_state = {"comm_seq": tf.TensorSpec([3, D], tf.float32)}
    embedding_dim = D

    def __init__(self):
        self.table = tf.Variable(tf.ones([ITEMS + 1, D]))
        # As training leaves it: a variable with sparse updates is copied whenever it is read as a whole.
        self.table.scatter_nd_update([[5]], tf.zeros([1, D]))
        self.kernel = tf.Variable(tf.random.normal([D, D]))

    def embed_user(self, features):
        return {"comm_seq": tf.gather(self.table, features["item_ids"])}

    def embed_item(self, features): ...

    def score(self, user_state, item_embs):
        hidden = tf.nn.relu(tf.matmul(item_embs, self.kernel))  # becomes the item table
        return tf.linalg.matvec(hidden, tf.reduce_sum(user_state["comm_seq"], axis=0))


def anonymous_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


model = Model()
model.embed_user({"item_ids": tf.constant([[1, 2, 3]], tf.int64)})  # what TensorFlow allocates once
before = peak = anonymous_bytes()
stop = threading.Event()

def watch():
    global peak
    while not stop.wait(0.01):
        peak = max(peak, anonymous_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
try:
    export_model(folder, folder / "models/1", ExportOptions(tuning=Tuning(walk="fixed")), model=model)
finally:
    stop.set()
    watcher.join()
graph = (folder / "models/1/saved_model.pb").stat().st_size
table = (folder / "models/1/assets/item_table_scorer.npy").stat().st_size
print(json.dumps({"grown": peak - before, "graph": graph, "table": table}))
"""


def test_three_quarters_of_a_gigabyte_are_exported_in_a_fraction_of_it(
    tmp_path: Path, subprocess_env: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _EXPORT, str(tmp_path / "run")],
        # A machine with many cores gives every thread of OpenMP and malloc memory of its own.
        env={**subprocess_env, "OMP_NUM_THREADS": "2", "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    # Item embeddings, item table and user table are 256 MB each: one copy of one of them would show.
    assert result["table"] > 256e6
    assert result["grown"] < 180e6, result
    assert result["graph"] < 200_000
