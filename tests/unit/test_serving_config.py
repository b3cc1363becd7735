"""Model config files and version folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nann.errors import InvalidFileError, InvalidInputError, NannError
from nann.serving.server import All, Latest, ModelConfig, Specific, StatusError, read_model_config_file
from nann.serving.server._config import models_to_reload
from nann.serving.server._source import find_versions
from nann.serving.server._status import invalid_argument


def _read(tmp_path: Path, text: str) -> list[object]:
    path = tmp_path / "models.config"
    path.write_text(text)
    return list(read_model_config_file(path))


def test_model_config_file(tmp_path: Path) -> None:
    models = _read(
        tmp_path,
        """model_config_list {
        config { name: "a" base_path: "/a" model_platform: "tensorflow" }
        config { name: "b" base_path: "/b" model_platform: "tensorflow"
          model_version_policy { latest { num_versions: 2 } } version_labels { key: "canary" value: 2 } }
        config { name: "c" base_path: "/c" model_platform: "tensorflow" model_version_policy { all {} } }
        config { name: "d" base_path: "/d" model_platform: "tensorflow"
          model_version_policy { specific { versions: 1 versions: 3 } } }
        }""",
    )
    assert [model.policy for model in models] == [Latest(1), Latest(2), All(), Specific((1, 3))]
    assert (models[1].name, models[1].base_path, models[1].labels) == ("b", Path("/b"), {"canary": 2})


def test_a_config_file_may_list_no_model_and_name_the_platform_as_it_was_once_done(tmp_path: Path) -> None:
    assert _read(tmp_path, "model_config_list {}") == []
    old = 'model_config_list { config { name: "a" base_path: "/a" model_type: TENSORFLOW } }'
    assert _read(tmp_path, old) == [ModelConfig(name="a", base_path=Path("/a"))]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("model_config_list {", InvalidFileError, "expected a text ModelServerConfig"),
        ("", InvalidFileError, "expected a model_config_list"),
        ('model_config_list { config { name: "a" } }', InvalidFileError, "needs name and base_path"),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "foo" } }',
            InvalidInputError,
            "Model a requests unsupported platform foo",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" } }',
            InvalidInputError,
            "Illegal setting neither .* model name is a; set model_platform",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_type: OTHER } }',
            InvalidInputError,
            "choice 2 not supported",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" '
            "logging_config {} } }",
            InvalidInputError,
            "No request-logger-creator provided",
        ),
        (
            "model_config_list { "
            + 'config { name: "a" base_path: "/a" model_platform: "tensorflow" } ' * 2
            + "}",
            InvalidFileError,
            "given once",
        ),
    ],
)
def test_model_config_file_refused(tmp_path: Path, text: str, kind: type[NannError], message: str) -> None:
    with pytest.raises(kind, match=message):
        _read(tmp_path, text)


def test_missing_model_config_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="nowhere"):
        read_model_config_file(tmp_path / "nowhere")


def _one(name: str, more: str = 'model_platform: "tensorflow"', base_path: str = "/a") -> str:
    return f'config {{ name: "{name}" base_path: "{base_path}" {more} }} '


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        (_one("a") + _one("a", "", "b"), "Illegal to list model a multiple times in config list"),
        (
            _one("a", "") + _one("b", "", "b"),
            "Expected model b to have an absolute path or URI; got base_path()=b",
        ),
        (
            _one("new", "") + _one("old", 'model_platform: "x"'),
            "Illegal to change a model's platform. For model old platform was tensorflow and new platform "
            "requested is x",
        ),
        (_one("new", 'model_platform: "x" version_labels { key: "l" value: 1 }'), "label"),
        (_one("new", 'model_platform: "x"'), "Model new requests unsupported platform x"),
        (
            _one("new", ""),
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is new",
        ),
        (_one("new", "model_type: 2"), "ModelServerConfig::model_type choice 2 not supported."),
        (
            _one("c", 'model_platform: "x" logging_config {}'),
            "Model c requests unsupported platform x",
        ),
    ],
)
def test_reloads_are_checked_in_the_order_of_the_real_server(configs: str, message: str) -> None:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    def check_labels(models: Sequence[ModelConfig]) -> None:
        if any(model.labels for model in models):
            raise invalid_argument("label")

    text = f"model_config_list {{ {configs} }}"
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    with pytest.raises(StatusError) as error:
        models_to_reload(config, served={"old"}, check_labels=check_labels)
    assert error.value.message == message


def test_policies_choose_the_highest_first() -> None:
    versions = [3, 1, 10]
    assert Latest().choose(versions) == [10]
    assert Latest(2).choose(versions) == [10, 3]
    assert All().choose(versions) == [10, 3, 1]
    assert Specific((1, 3, 77)).choose(versions) == [3, 1]


def test_version_folders_are_those_whose_names_are_numbers(tmp_path: Path) -> None:
    none = (
        "abc",
        "1a",
        "--3",
        "- 3",
        "30.5",
        "0x21",
        "v40",
        ".5.tmp",
        "9223372036854775808",
        "\u00a08",
        "\u0664",
    )
    for name in (*none, "00000041", "7", " +9 ", "-30", "-9223372036854775808", "-9223372036854775809"):
        (tmp_path / name).mkdir()
    assert sorted(find_versions(tmp_path)) == [-(2**63), -30, 7, 9, 41]
    with pytest.raises(OSError, match="missing"):
        find_versions(tmp_path / "missing")
