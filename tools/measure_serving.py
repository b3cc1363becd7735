"""What serving costs over the loaded model in the process, and what a server holds, in one run.

.venv/bin/python tools/measure_serving.py build/demo/models/nann [--nann_front=false]

Further flags are the server's. Prints one JSON object:

overhead_ms: of a search by ids at one client: medians in process and by the client, over interleaved rounds,
             and the difference; by a bare call of gRPC with the same bytes, too.
per_second:  searches of 4 callers, likewise, and by h2load where it is installed (Debian's nghttp2-client), a
             load generator in C, which leaves the processors to the server; shares of those in process.
start:       seconds and anonymous MB of a process that imports TensorFlow, and of `nann serve` when ready.
overload:    a server with one thread, asked by 5 times as many callers as it takes: status codes, anonymous
             MB before and after, and latencies afterwards.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from nann.serving.client import NannClient, NannClientError

_ROUNDS, _CALLS = 5, 200
_CALLERS, _SECONDS = 4, 4.0
_METHOD = "/tensorflow.serving.PredictionService/Predict"
_IMPORT = "import tensorflow, sys; print('ready', flush=True); sys.stdin.read()"


@contextmanager
def started(command: list[str]) -> Iterator[tuple[str, float, int]]:
    """Run a program; its first line, seconds until then, and its process id."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield line, time.monotonic() - began, process.pid
    process.send_signal(signal.SIGTERM)
    process.wait()


@contextmanager
def served(base_path: Path, *flags: str) -> Iterator[tuple[str, float, int]]:
    """Run a server on free ports; its address, seconds until it is ready, and its process id."""
    command = [sys.executable, "-m", "nann", "serve", "--json", "--host=localhost", "--port=0"]
    command += ["--rest_api_port=0", "--model_name=nann", f"--model_base_path={base_path}", *flags]
    with started(command) as (line, seconds, process):
        yield json.loads(line)["grpc"], seconds, process


def anonymous_mb(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def median_ms(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def per_second(call: Callable[[], Any]) -> float:
    """Return the calls per second of several threads."""
    counts = [0] * _CALLERS
    end = time.monotonic() + _SECONDS

    def run(number: int) -> None:
        while time.monotonic() < end:
            call()
            counts[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(_CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / _SECONDS


def bare_call(address: str, tensors: dict[str, Any]) -> tuple[Callable[[bytes], Any], bytes]:
    """Return gRPC's own call for a search by ids, without a client, and its bytes."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "nann", "retrieve_by_ids"
    for name, tensor in tensors.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
    channel = grpc.insecure_channel(address)
    return channel.unary_unary(_METHOD), request.SerializeToString()


def per_second_h2load(address: str, message: bytes, answer: bytes) -> float:
    """Return the calls per second of h2load's connections.

    Raises RuntimeError if an answer was not OK, or not as long as the one given.
    """
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(message).to_bytes(4, "big") + message)
        body.flush()
        command = ["h2load", f"--clients={_CALLERS}", "--max-concurrent-streams=1", "--threads=1"]
        command += [f"--duration={_SECONDS:.0f}", f"--data={body.name}"]
        command += ["--header=content-type: application/grpc", "--header=te: trailers"]
        command.append(f"http://{address}{_METHOD}")
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"requests: .* (\d+) done, (\d+) succeeded,.*?\((\d+)\) data", run.stdout, re.DOTALL)
    if found is None:
        raise RuntimeError(f"h2load: expected counts, found {run.stdout}")
    done, succeeded, size = map(int, found.groups())
    # gRPC's errors are HTTP's 200 without data, and each answer has a head of 5 bytes.
    if succeeded != done or abs(size - done * (len(answer) + 5)) > _CALLERS * (len(answer) + 5):
        raise RuntimeError(f"h2load: expected {done} answers of {len(answer)} bytes, found {run.stdout}")
    return done / _SECONDS


def saturation(rates: list[dict[str, float]]) -> dict[str, Any]:
    """Return the medians of calls per second, and their shares of those in process."""
    medians = {name: statistics.median(each[name] for each in rates) for name in rates[0]}
    return {**medians, "share": {name: rate / medians["in_process"] for name, rate in medians.items()}}


def overload(base_path: Path, flags: list[str], ask: Callable[[NannClient], Any]) -> dict[str, Any]:
    """Ask a server for 5 times as much as it takes."""
    with (
        served(base_path, "--grpc_max_threads=1", *flags) as (address, _, process),
        NannClient(address, model="nann", timeout=0.25) as client,
    ):
        for _ in range(20):
            ask(client)
        before, codes = anonymous_mb(process), Counter[str]()

        def once() -> None:
            try:
                ask(client)
                codes["OK"] += 1
            except NannClientError as error:
                codes[str(error.code)] += 1

        end = time.monotonic() + _SECONDS

        def run() -> None:
            while time.monotonic() < end:
                once()

        # One thread and 32 waiting requests are what the server takes.
        threads = [threading.Thread(target=run) for _ in range(5 * 33)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = anonymous_mb(process)
        began = time.perf_counter()
        ask(client)
        first = (time.perf_counter() - began) * 1000
        return {
            "codes": dict(codes),
            "anonymous_mb": [before, after],
            "first_search_afterwards_ms": round(first, 2),
            "median_afterwards_ms": round(median_ms(lambda: ask(client)), 2),
        }


def measure(base_path: Path, flags: list[str]) -> None:
    """Measure and print."""
    with started([sys.executable, "-c", _IMPORT]) as (_, import_seconds, process):
        import_mb = anonymous_mb(process)
    import tensorflow as tf

    import nann.ops

    nann.ops.load_library()
    versions = [path for path in base_path.iterdir() if path.name.isdecimal()]
    version = max(versions, key=lambda path: int(path.name))
    beams = json.loads((version / "assets.extra/nann_manifest.json").read_text())["level_topn"]
    loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures["retrieve_by_ids"]
    with (
        served(base_path, *flags) as (address, seconds, process),
        NannClient(address) as client,
    ):
        held_mb = anonymous_mb(process)
        width = client.metadata().row_width("retrieve_by_ids", "item_ids")
        assert width is not None
        ids = np.random.default_rng(0).integers(1, 1000, (1, width))
        inputs = {"item_ids": ids, "cate_ids": ids % 18 + 1, "exclude_ids": np.array([[-1]])}
        tensors = {name: tf.constant(value, tf.int64) for name, value in inputs.items()}
        tensors["level_topn"] = tf.constant([beams], tf.int32)

        def ask(client: NannClient) -> Any:
            return client.top_k_by_ids(inputs["item_ids"], inputs["cate_ids"], level_topn=beams)

        call, message = bare_call(address, tensors)
        calls = {
            "in_process": lambda: signature(**tensors)["top_k"].numpy(),
            "grpc": lambda: ask(client),
            "bare_grpc": lambda: call(message),
        }
        for each in calls.values():
            median_ms(each)
        rounds = [{name: median_ms(call) for name, call in calls.items()} for _ in range(_ROUNDS)]
        loads = {name: partial(per_second, call) for name, call in calls.items()}
        if shutil.which("h2load"):
            loads["h2load"] = partial(per_second_h2load, address, message, call(message))
        rates = [{name: load() for name, load in loads.items()} for _ in range(3)]
    overhead = {name: statistics.median(each[name] for each in rounds) for name in calls}
    report = {
        "overhead_ms": {**overhead, "difference": overhead["grpc"] - overhead["in_process"]},
        "per_second": saturation(rates),
        "start": {
            "seconds": [import_seconds, seconds],
            "anonymous_mb": [import_mb, held_mb],
        },
        "overload": overload(base_path, flags, ask),
    }
    print(
        json.dumps(json.loads(json.dumps(report), parse_float=lambda text: round(float(text), 3)), indent=1)
    )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base_path", type=Path, help="folder with the versions of an export")
    options, flags = parser.parse_known_args()
    if not any(path.name.isdecimal() for path in options.base_path.glob("*")):
        parser.error(f"{options.base_path}: expected a folder with versions, such as 1; found none")
    measure(options.base_path, flags)


if __name__ == "__main__":
    main()
