"""Changes of the models that are served: by a request, or by a config file that is polled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from nann.serving.server._config import models_to_reload, parse_model_config_file
from nann.serving.server._manager import ModelManager
from nann.serving.server._status import StatusError, invalid_argument

_log = logging.getLogger("nann.serving")


def reload_config(manager: ModelManager, config: Any, should_stop: Callable[[], bool]) -> None:
    """Serve the models of a `ModelServerConfig` from now on. A config with an error changes nothing.

    Returns when the models that are new can be used.

    Raises:
      StatusError: the config has an error, or a new model cannot be loaded.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
            "currently supported"
        )
    models = models_to_reload(config, served=manager.names(), check_labels=manager.check_labels)
    manager.replace_models(models, should_stop)


class ConfigFilePoller:
    """Has the models of a config file served, from a thread of its own.

    As in TensorFlow Serving, the file also wins over a reload request that came since the last look. A file
    that is missing, empty or has an error changes nothing.
    """

    def __init__(self, manager: ModelManager, path: Path, *, poll_seconds: float) -> None:
        self._manager = manager
        self._path = path
        self._poll_seconds = min(poll_seconds, threading.TIMEOUT_MAX)
        self._stopping = threading.Event()
        # What was last logged.
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="nann-config-poller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Returns when a change under way ended."""
        self._stopping.set()
        self._manager.wake()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                self._look()
                problem = ""
            except (OSError, UnicodeDecodeError, text_format.ParseError, StatusError) as error:
                problem = str(error)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem and problem != self._problem:
                _log.error("%s: the model config is not taken over: %s", self._path, problem)
            self._problem = problem

    def _look(self) -> None:
        config = parse_model_config_file(self._path)
        if config.WhichOneof("config") != "model_config_list":
            return
        models = models_to_reload(config, served=self._manager.names(), allow_relative=True)
        if not self._manager.serves(models):
            # What is new loads while the file is looked at again.
            self._manager.replace_models(models, should_stop=lambda: True)
