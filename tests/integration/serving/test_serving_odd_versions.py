"""Version folders that no server can load, as a real process meets them: none of them ends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from nann.serving.client import NannClient
from nann.serving.server import Code

_WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _folder_loops(folder: Path) -> None:
    shutil.rmtree(folder)
    _loop(folder)


def _folder_dangles(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("nowhere")


def _folder_is_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


def _model_is_a_folder(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()
    (folder / "saved_model.pb").mkdir()


def _model_loops(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()
    _loop(folder / "saved_model.pb")


def _model_ends_early(folder: Path) -> None:
    whole = (folder / "saved_model.pb").read_bytes()
    (folder / "saved_model.pb").write_bytes(whole[: len(whole) // 2])


def _model_is_garbage(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"\xff" * 50)


def _no_variables(folder: Path) -> None:
    shutil.rmtree(folder / "variables")
    (folder / "variables").write_text("")


def _extra_loops(folder: Path) -> None:
    _loop(folder / "assets.extra")


def _warmup_is_a_folder(folder: Path) -> None:
    (folder / _WARMUP).mkdir(parents=True)


def _warmup_is_no_record_file(folder: Path) -> None:
    (folder / "assets.extra").mkdir()
    (folder / _WARMUP).write_bytes(b"no record" * 9)


def _warmup_is_no_prediction_log(folder: Path) -> None:
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / _WARMUP)) as writer:
        writer.write(b"\xff\xff\xff")


# What makes a good version odd, and the code and the text of its status.
_ODD: dict[Callable[[Path], None], tuple[str, str]] = {
    _folder_loops: ("UNKNOWN", "Too many levels of symbolic links"),
    _folder_dangles: ("NOT_FOUND", "does not appear to contain a SavedModel"),
    _folder_is_a_file: ("FAILED_PRECONDITION", "Not a directory"),
    _model_is_a_folder: ("FAILED_PRECONDITION", "Is a directory"),
    _model_loops: ("UNKNOWN", "Too many levels of symbolic links"),
    _model_ends_early: ("OUT_OF_RANGE", "Read less bytes than requested"),
    _model_is_garbage: ("DATA_LOSS", "a [b] c\\d/8/saved_model.pb as binary proto"),
    _no_variables: ("NOT_FOUND", "not a valid checkpoint"),
    _extra_loops: ("UNKNOWN", "Too many levels of symbolic links"),
    _warmup_is_a_folder: ("FAILED_PRECONDITION", "Is a directory"),
    _warmup_is_no_record_file: ("DATA_LOSS", "corrupted record at 0"),
    _warmup_is_no_prediction_log: ("INVALID_ARGUMENT", "Failed to parse warmup record 1"),
}


def test_odd_versions_end_with_their_errors_and_later_ones_are_served(
    serve: Callable[..., Any], publish: Any, small_models: tuple[Path, Path], tmp_path: Path
) -> None:
    base_path = tmp_path / "a [b] c\\d"  # TensorFlow takes such names for patterns
    publish(small_models[0], base_path, 1)
    server = serve("--model_name", "m", "--model_base_path", str(base_path), "--max_num_load_retries", "0")
    server.wait_ready()
    for number, make_odd in enumerate(_ODD, start=2):
        folder = publish(small_models[0], tmp_path / "beside", number)
        make_odd(folder)
        folder.rename(base_path / folder.name)
        server.wait_for_log(f"model m version {number}: cannot be loaded (given up)")
    publish(small_models[0], base_path, 99)
    server.wait_for_log("model m version 1: unloaded")
    with NannClient(server.grpc, model="m") as client:
        versions = {version.version: version for version in client.status()}
    assert versions.pop(99).state == "AVAILABLE"
    assert versions.pop(1).state == "END"
    for number, (code, text) in enumerate(_ODD.values(), start=2):
        assert versions[number].state == "END"
        assert Code(versions[number].error_code).name == code
        assert text in versions[number].error_message


def test_an_odd_version_at_the_start_ends_the_server_with_its_error(
    serve: Callable[..., Any], publish: Any, small_models: tuple[Path, Path], tmp_path: Path
) -> None:
    _warmup_is_no_prediction_log(publish(small_models[0], tmp_path, 1))
    flags = ("--max_num_load_retries", "1", "--load_retry_interval_micros", "1000")
    server = serve("--model_name", "m", "--model_base_path", str(tmp_path), *flags)
    server.wait_for_log("model m version 1: cannot be loaded (retry in 0.001 s): INVALID_ARGUMENT: Failed")
    assert "{name: m version: 1} due to error: INVALID_ARGUMENT: Failed to parse" in server.wait_for_log(
        "1 servable(s) did not become available"
    )
    assert server.wait() == 1


def test_a_server_that_waits_for_a_specific_version_says_so(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "m" / "3").mkdir(parents=True)
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path / "m"}" '
        'model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 77 } } } }"
    )
    server = serve("--model_config_file", str(config))
    assert f"base path {tmp_path / 'm'} has version 3" in server.wait_for_log(
        "model m: waiting for version 77, which the version policy asks for"
    )
    server.terminate()
    assert server.wait() == 0
