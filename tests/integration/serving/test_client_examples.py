"""The examples in the client's docstrings and in the documents, run against real servers."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_status_pb2

import nann.serving.client as package
from support.tiny_model import E, L
from support.tiny_run import write_run

ROOT = Path(__file__).parents[3]
CLASSES = [
    value
    for value in vars(package).values()
    if inspect.isclass(value) and value.__module__.startswith(f"{package.__name__}.")
]


def _is_ours(member: Any) -> bool:
    function = member.fget if isinstance(member, property) else member
    return inspect.isfunction(function) and function.__module__.startswith(package.__name__)


def _examples() -> list[Any]:
    """(class of the example's client, docstring) for the package, its classes and their methods."""
    examples = [pytest.param(package.NannClient, package.__doc__, id=package.__name__)]
    for public in CLASSES:
        client = public if public is package.ShardedClient else package.NannClient
        examples.append(pytest.param(client, public.__doc__, id=public.__name__))
        for name, member in inspect.getmembers(public, _is_ours):
            if not name.startswith("_"):
                examples.append(pytest.param(client, member.__doc__, id=f"{public.__name__}.{name}"))
    return examples


@pytest.fixture(scope="module")
def addresses(servers: list[Any]) -> list[str]:
    """Addresses of a server with the tiny model, and of one server for each of its two shards."""
    return [server.grpc for server in servers]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Any]) -> Iterator[list[Any]]:
    from nann.export import export_model, export_shards

    folder = tmp_path_factory.mktemp("examples")
    run = write_run(folder / "run")
    export_model(run, folder / "whole/1")
    export_shards(run, folder / "nann/1", shards=2)
    paths = [folder / "whole", folder / "nann-0-of-2", folder / "nann-1-of-2"]
    servers = [serve("--model_name", "nann", "--model_base_path", str(path)) for path in paths]
    yield [server.wait_ready() for server in servers]
    for server in servers:
        server.close()


@pytest.mark.parametrize(("client_type", "docstring"), _examples())
def test_docstrings(client_type: type[Any], docstring: str | None, addresses: list[str]) -> None:
    target, *shards = addresses

    async def with_client(ask: Callable[[Any], Any]) -> Any:
        async with package.AsyncNannClient(target, model="nann") as client:
            return await ask(client)

    with client_type(shards if client_type is package.ShardedClient else target) as client:
        names = {
            **vars(package),
            "np": np,
            "asyncio": asyncio,
            "with_client": with_client,
            "client": client,
            "target": target,
            "shards": shards,
            "comm_seq": np.random.default_rng(0).normal(size=(1, L, E)).astype(np.float16),
        }
        text = inspect.cleandoc(docstring or "")
        test = doctest.DocTestParser().get_doctest(text, names, "docstring", None, 0)
        assert test.examples, "expected an example"
        printed: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        result = runner.run(test, out=printed.append)
    assert result.failed == 0, "".join(printed)


@pytest.mark.parametrize("document", ["README.md", "docs/shards.md", "docs/signatures.md"])
def test_documents(document: str, addresses: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each Python example of the client runs, with other addresses, time limits and sizes of the model."""
    target, *shards = addresses
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    examples = [block for block in blocks if f"from {package.__name__} import" in block]
    assert examples
    first, second = shards if document == "docs/shards.md" else (target, "")
    for example in examples:
        example = example.replace("localhost:8500", first).replace("localhost:8510", second)
        example = re.sub(r"timeout=[\d.]+", "timeout=60", example).replace("50, 64", f"{L}, {E}")
        exec(compile(example, document, "exec"), {})
    assert capsys.readouterr().out


# Print what they were called with, instead of calling.
_COMMANDS = """
curl() { printf '%s\\0' curl "${@: -1}" "$2"; }
grpcurl() { printf '%s\\0' grpcurl "${@: -1}" "$3"; }
"""


def test_commands_of_the_readme(servers: list[Any]) -> None:
    """What `curl` and `grpcurl` would send, the first without the padding of the demo's model."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [block for block in text.split("```")[1::2] if "grpcurl" in block]
    block = re.sub(r"^zeros=.*$", "zeros=", block, flags=re.MULTILINE)
    done = subprocess.run(["bash", "-c", _COMMANDS + block], capture_output=True, text=True, check=True)
    curl, url, body, grpcurl, method, message, _ = done.stdout.split("\0")
    assert (curl, grpcurl) == ("curl", "grpcurl")

    url = url.replace("localhost:8501", servers[0].rest)
    with urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=60) as response:
        (found,) = json.load(response)["predictions"]
    assert len(found["top_k"]) == json.loads(body)["instances"][0]["level_topn"][-1]

    assert method == "tensorflow.serving.ModelService/GetModelStatus"
    request = json_format.Parse(message, get_model_status_pb2.GetModelStatusRequest())
    with grpc.insecure_channel(servers[0].grpc) as channel:
        status = channel.unary_unary(f"/{method}")(request.SerializeToString(), timeout=60)
    (version,) = get_model_status_pb2.GetModelStatusResponse.FromString(status).model_version_status
    assert version.version == 1
