"""What to serve: the names of models, their base paths, version policies and labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from nann.errors import InvalidFileError, InvalidInputError
from nann.serving.server._status import StatusError, invalid_argument

_PLATFORM = "tensorflow"
# The deprecated field's number for the same platform.
_MODEL_TYPE_TENSORFLOW = 1
_NO_LOGGER = "No request-logger-creator provided."


@dataclass(frozen=True)
class Latest:
    """Serve the `count` highest versions.

    >>> from nann.serving.server import Latest
    >>> Latest(2).choose([3, 1, 10])
    [10, 3]
    """

    count: int = 1

    def choose(self, versions: list[int]) -> list[int]:
        # TensorFlow Serving takes 0 for "not set", which means 1.
        return sorted(versions, reverse=True)[: max(self.count, 1)]


@dataclass(frozen=True)
class All:
    """Serve every version.

    >>> from nann.serving.server import All
    >>> All().choose([3, 1, 10])
    [10, 3, 1]
    """

    def choose(self, versions: list[int]) -> list[int]:
        return sorted(versions, reverse=True)


@dataclass(frozen=True)
class Specific:
    """Serve the listed versions, as far as they exist.

    >>> from nann.serving.server import Specific
    >>> Specific((1, 77)).choose([3, 1, 10])
    [1]
    """

    versions: tuple[int, ...]

    def choose(self, versions: list[int]) -> list[int]:
        return sorted(set(versions) & set(self.versions), reverse=True)


VersionPolicy = Latest | All | Specific


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model to serve.

    name: what callers ask for.
    base_path: the folder whose sub-folders named by numbers are the versions.
    policy: which of the versions are served.
    labels: further names of versions, such as "stable", for callers to ask for.

    >>> from pathlib import Path
    >>> from nann.serving.server import ModelConfig, Specific
    >>> ModelConfig(
    ...     name="nann",
    ...     base_path=Path("MODELS/nann"),
    ...     policy=Specific((1, 2)),
    ...     labels={"stable": 1, "canary": 2},
    ... ).labels["stable"]
    1
    """

    name: str
    base_path: Path
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)


def read_model_config_file(path: Path) -> list[ModelConfig]:
    """Return the models of a model config file, in the text format of TensorFlow Serving.

    An empty `model_config_list` is a list of no models; reloads may add some. A file with one model:

    ```
    model_config_list {
      config { name: "nann" base_path: "MODELS/nann" model_platform: "tensorflow" }
    }
    ```

    Raises:
      InvalidFileError: the file cannot be read or parsed, has no list of models, lists a model without name
        or base path, or lists a name twice.
      InvalidInputError: a model asks for a platform other than "tensorflow", or for logs of its requests.
    """
    try:
        config = parse_model_config_file(path)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise InvalidFileError(
            f"{path}: expected a text ModelServerConfig such as "
            f'`model_config_list {{ config {{ name: "nann" base_path: "/models/nann" model_platform: '
            f'"tensorflow" }} }}`: {error}'
        ) from error
    if config.WhichOneof("config") != "model_config_list":
        raise InvalidFileError(f"{path}: expected a model_config_list")
    models = [_model(path, item) for item in config.model_config_list.config]
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise InvalidFileError(f"{path}: each model name may be given once, got {sorted(names)}")
    return models


def parse_model_config_file(path: Path) -> Any:
    """Return the `ModelServerConfig` in a file.

    Raises:
      OSError: the file cannot be read.
      UnicodeDecodeError, text_format.ParseError: it holds no text message of that type.
    """
    from tensorflow_serving.config import model_server_config_pb2

    text = path.read_text(encoding="utf-8")
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def models_to_reload(
    config: Any,
    *,
    served: Collection[str] = (),
    check_labels: Callable[[Sequence[ModelConfig]], None] = lambda _: None,
    allow_relative: bool = False,
) -> list[ModelConfig]:
    """Return the models of a `ModelServerConfig` that replaces the current one, with all checks.

    Checks and their order are those of TensorFlow Serving. `served` are the names of the current models.
    `check_labels` is called in its turn. `allow_relative` accepts base paths that begin in the server's
    working directory.

    Raises:
      StatusError: INVALID_ARGUMENT, in the words of TensorFlow Serving; or what `check_labels` raises.
    """
    items = config.model_config_list.config
    _check_names(items)
    for item in items:
        if not item.base_path or not (allow_relative or Path(item.base_path).is_absolute()):
            raise invalid_argument(
                f"Expected model {item.name} to have an absolute path or URI; "
                f"got base_path()={item.base_path}"
            )
    for item in items:
        if item.name in served and (platform := _platform(item)) != _PLATFORM:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {item.name} platform was {_PLATFORM} and "
                f"new platform requested is {platform}"
            )
    models = [_model_config(item) for item in items]
    check_labels(models)
    for item in items:
        if (platform := _platform(item)) != _PLATFORM:
            raise invalid_argument(f"Model {item.name} requests unsupported platform {platform}")
    if any(item.HasField("logging_config") for item in items):
        raise invalid_argument(_NO_LOGGER)
    return models


def _check_names(items: Any) -> None:
    names: set[str] = set()
    for item in items:
        if item.name in names:
            raise invalid_argument(f"Illegal to list model {item.name} multiple times in config list")
        names.add(item.name)


def _platform(item: Any) -> str:
    if not item.model_type:
        if not item.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {item.name}"
            )
        return str(item.model_platform)
    if item.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            f"ModelServerConfig::model_platform, model name is {item.name}"
        )
    if item.model_type != _MODEL_TYPE_TENSORFLOW:
        raise invalid_argument(f"ModelServerConfig::model_type choice {item.model_type} not supported.")
    return _PLATFORM


def _model(path: Path, item: Any) -> ModelConfig:
    if not item.name or not item.base_path:
        raise InvalidFileError(
            f"{path}: every config needs name and base_path, got {text_format.MessageToString(item)!r}"
        )
    try:
        platform = _platform(item)
    except StatusError as error:
        raise InvalidInputError(f'{error.message}; set model_platform: "{_PLATFORM}"') from error
    if platform != _PLATFORM:
        raise InvalidInputError(
            f'Model {item.name} requests unsupported platform {platform}; set model_platform: "{_PLATFORM}"'
        )
    if item.HasField("logging_config"):
        raise InvalidInputError(f"Model {item.name} has a logging_config: {_NO_LOGGER} Remove it.")
    return _model_config(item)


def _model_config(item: Any) -> ModelConfig:
    return ModelConfig(
        name=item.name,
        base_path=Path(item.base_path),
        policy=_policy(item.model_version_policy),
        labels=dict(item.version_labels),
    )


def _policy(proto: Any) -> VersionPolicy:
    choice = proto.WhichOneof("policy_choice")
    if choice == "all":
        return All()
    if choice == "specific":
        return Specific(tuple(proto.specific.versions))
    return Latest(proto.latest.num_versions or 1)
