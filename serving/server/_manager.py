"""The manager: keeps the versions that should be served loaded, and lends them to requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nann.serving.server._config import ModelConfig
from nann.serving.server._loader import Load, Loader
from nann.serving.server._monitor import StateMonitor
from nann.serving.server._policy import next_to_load, next_to_unload
from nann.serving.server._servable import Servable
from nann.serving.server._source import FileSystemSource
from nann.serving.server._status import Code, StatusError, invalid_argument, not_found
from nann.serving.server._versions import Choice, Route, State, Version, VersionStatus

_log = logging.getLogger("nann.serving")


@dataclass(frozen=True, kw_only=True)
class ManagerOptions:
    """How often the manager looks for versions, and how it retries failed loads.

    With `poll_seconds` 0 it looks once. `load_threads` limits how many versions are loaded at once; 0 sets no
    limit.

    >>> from nann.serving.server import ManagerOptions
    >>> ManagerOptions(poll_seconds=10, max_load_retries=2, load_retry_seconds=1).poll_seconds
    10
    """

    poll_seconds: float = 1.0
    load_threads: int = 0
    max_load_retries: int = 5
    load_retry_seconds: float = 60.0
    allow_labels_for_unavailable: bool = False


@dataclass(frozen=True)
class Lease:
    """A loaded version that a request uses."""

    version: int
    servable: Servable


class ModelManager:
    """Loads new versions while the old ones serve, then drains and unloads the old ones.

    The parts, as in TensorFlow Serving: a source says which versions are aspired; a policy says which of
    them to load or unload next; a loader loads them; a monitor keeps what is told about them. The manager
    owns the versions and connects the parts.

    A version that cannot be loaded ends with its error, and the version before it goes on serving. It is
    tried again under the same number only after it was not aspired for a while: its folder was gone, or a
    higher version was there.

    Threads: every public method may be called from any thread. One lock guards the versions. It is held
    only to read and change their states, never while a version is loaded, run or closed. The source calls
    `_aspire` from its thread, the loader calls `_on_outcome` from the thread of the version. A version is
    closed by the thread that retires it or, if requests still use it, by the last of these.
    """

    def __init__(self, models: Sequence[ModelConfig], load: Load, options: ManagerOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        # Held while models are checked and replaced, never while anything is waited for.
        self._replacing = threading.Lock()
        self._models: dict[str, ModelConfig] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        # What the source said last.
        self._aspired: dict[str, Mapping[int, Path]] = {}
        self._monitor = StateMonitor()
        self._loader = Loader(
            load,
            self._on_outcome,
            max_retries=options.max_load_retries,
            retry_seconds=options.load_retry_seconds,
            threads=options.load_threads,
        )
        # Makes the changes that are told to the front come one after another; taken before the other lock.
        self._sharing = threading.Lock()
        self._share_with: Callable[[Mapping[Route, Version]], Sequence[Version]] | None = None
        self._source = FileSystemSource(self._aspire, poll_seconds=options.poll_seconds)
        self.set_models(models)

    def set_models(self, models: Sequence[ModelConfig]) -> None:
        """Serve these models from now on: new ones are loaded, those left out are unloaded."""
        self._models = {model.name: model for model in models}
        self._source.set_models(models)
        self._share()
        self._monitor.wake()

    def share(self, share_with: Callable[[Mapping[Route, Version]], Sequence[Version]]) -> None:
        """Tell a front, now and after every change, which version answers which requests.

        A version that it was told of is not unloaded before the front has given it back: `share_with` returns
        it, or `give_back` is called with it.
        """
        with self._sharing:
            self._share_with = share_with
        self._share()

    def give_back(self, version: Version) -> None:
        """A request, or the front, has no more use for a version."""
        with self._lock:
            version.leases -= 1
        self._unload_if_unused(version)

    def start(self) -> None:
        """Begin to load. Returns at once."""
        self._source.start()

    def stop(self) -> None:
        """Stop looking and loading, wait for requests that use a version, and unload all versions.

        Waits for a load under way, too: TensorFlow offers no way to interrupt it.
        """
        self._source.stop()
        for name in list(self._aspired):
            self._aspire(name, {})
        self._monitor.wait_until(self._monitor.has_ended)

    def wait_until_available(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Wait until every model serves all versions that it should; False if told to stop before.

        `should_stop` is called again after each `wake`. A missing or empty base path is waited for, and a
        version that is tried again is not while another one serves, as in TensorFlow Serving.

        Raises:
          StatusError: a version was given up, or a label names a version that is not available.
        """
        self._monitor.wait_until(lambda: should_stop() or all(map(self._monitor.is_settled, self._models)))
        if should_stop():
            return False
        self._monitor.check_loaded(self._models)
        for model in self._models.values():
            self._check_labels(model)
        return True

    def replace_models(self, models: Sequence[ModelConfig], should_stop: Callable[[], bool]) -> None:
        """Serve these models from now on, and wait until those that are new serve all versions they should.

        The change of a model that was there before applies a little later, as in TensorFlow Serving. Another
        replacement may begin while this one waits, and models that it removes are not waited for.

        Raises:
          StatusError: FAILED_PRECONDITION if a label names a version that is not available, and nothing
            changes; UNKNOWN if the newest version of a new model cannot be loaded.
        """
        with self._replacing:
            self.check_labels(models)
            new = {model.name for model in models} - self._models.keys()
            self.set_models(models)

        def is_done() -> bool:
            waited_for = new & self._models.keys()
            return should_stop() or all(map(self._monitor.is_settled, waited_for))

        self._monitor.wait_until(is_done)
        self._monitor.check_newest_loaded(new & self._models.keys())

    def wake(self) -> None:
        """Make `wait_until_available` call its `should_stop` again."""
        self._monitor.wake()

    def statuses(self, name: str, *, version: int | None = None) -> list[VersionStatus]:
        """Return the known versions of a model, the newest first, or only the given one.

        Raises:
          StatusError: NOT_FOUND.
        """
        return self._monitor.statuses(name, version=version)

    def known(self, name: str) -> list[VersionStatus]:
        """Return the known versions of a model, the newest first; none for a model without any."""
        try:
            return self.statuses(name)
        except StatusError:
            return []

    def names(self) -> set[str]:
        """Return the names of the models that should be served."""
        return set(self._models)

    def serves(self, models: Sequence[ModelConfig]) -> bool:
        """Return whether these are the models that should be served, with the same versions and labels."""
        return self._models == {model.name: model for model in models}

    def check_labels(self, models: Sequence[ModelConfig]) -> None:
        """Check that the labels of models that replace the current ones name versions that are available.

        Raises:
          StatusError: FAILED_PRECONDITION.
        """
        for model in models:
            self._check_labels(model, self._models.get(model.name))

    def labels(self) -> dict[str, dict[str, int]]:
        """Return the labels of each model that should be served, by the model's name."""
        return {name: dict(model.labels) for name, model in self._models.items()}

    @contextmanager
    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Iterator[Lease]:
        """Hold an available version, by default the highest, for the time of a request.

        Raises:
          StatusError: NOT_FOUND for a model or version that is not available, INVALID_ARGUMENT for an
            unknown label.
        """
        held = self._acquire(name, version, label)
        assert held.servable is not None
        try:
            yield Lease(held.number, held.servable)
        finally:
            self.give_back(held)

    def _share(self) -> None:
        """Tell the front, if there is one, which version answers which requests."""
        with self._sharing:
            if self._share_with is None:
                return
            with self._lock:
                routes = self._routes()
                for version in set(routes.values()):
                    if not version.is_shared:
                        version.is_shared = True
                        version.leases += 1
            unused = self._share_with(routes)
        for version in unused:
            self.give_back(version)

    def _routes(self) -> dict[Route, Version]:
        """Return the versions that may answer by what a request may ask for. The lock is held."""
        routes = {}
        for name in self._versions:
            answering = self._answering(name)
            for number, version in answering.items():
                routes[Route(name, Choice.VERSION, version=number)] = version
            if answering:
                routes[Route(name)] = answering[max(answering)]
            labels = self._models[name].labels if name in self._models else {}
            for label, number in labels.items():
                if number in answering:
                    routes[Route(name, Choice.LABEL, label=label)] = answering[number]
        return routes

    def _answering(self, name: str) -> dict[int, Version]:
        """Return the versions of a model that may answer, by their numbers. The lock is held.

        A version that has just been loaded answers a moment before it is called available.
        """
        versions = self._versions.get(name, {}).items()
        return {
            number: version
            for number, version in versions
            if version.servable is not None and version.state is not State.UNLOADING
        }

    def _acquire(self, name: str, number: int | None, label: str | None) -> Version:
        with self._lock:
            if label is not None:
                labels = self._models[name].labels if name in self._models else {}
                if label not in labels:
                    raise invalid_argument(f"Unrecognized servable version label: {label}")
                number = labels[label]
            answering = self._answering(name)
            found = answering.get(max(answering, default=0) if number is None else number)
            if found is None:
                request = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise not_found(f"Servable not found for request: {request}")
            found.leases += 1
            return found

    def _aspire(self, name: str, aspired: Mapping[int, Path]) -> None:
        """Have exactly these versions of a model served from now on."""
        with self._lock:
            self._aspired[name] = aspired
        self._reconcile(name)

    def _on_outcome(self, version: Version, outcome: Servable | StatusError, is_final: bool) -> None:
        """Take over what came of a try to load a version."""
        with self._lock:
            version.is_retrying = not is_final
            self._monitor.publish(version)
            if not isinstance(outcome, StatusError):
                version.servable = outcome
            elif is_final:
                version.error = outcome
                self._set_state(version, State.END)
        if not isinstance(outcome, StatusError):
            # The front first: whoever reads that a version is available is answered by it.
            self._share()
            with self._lock:
                self._set_state(version, State.AVAILABLE)
            _log.info("%s: available", version)
        self._reconcile(version.model)

    def _reconcile(self, name: str) -> None:
        """Bring the versions of a model closer to the aspired ones. Called after every change."""
        with self._lock:
            aspired = self._aspired[name]
            self._note_aspired(name, aspired)
            versions = self._versions[name].values()
            retired = []
            while (version := next_to_unload(versions, keep_one=bool(aspired))) is not None:
                self._set_state(version, State.UNLOADING)
                retired.append(version)
            version = next_to_load(versions)
            if version is not None:
                # First, so that nobody sees a version load that is not said to be loading.
                self._set_state(version, State.LOADING)
                if not self._loader.start(version):
                    self._set_state(version, State.START)
        self._share()
        for version in retired:
            self._unload_if_unused(version)

    def _note_aspired(self, name: str, aspired: Mapping[int, Path]) -> None:
        """Add the versions that are new, and note which of all are aspired. The lock is held."""
        versions = self._versions.setdefault(name, {})
        for number, path in aspired.items():
            known = versions.get(number)
            if known is None or (known.state is State.END and not known.is_aspired):
                versions[number] = Version(name, number, path)
                self._monitor.publish(versions[number])
        for version in versions.values():
            is_aspired = version.number in aspired
            if not is_aspired and version.is_aspired:
                version.dropped.set()
                self._set_state(version, State.END if version.state is State.START else version.state)
            elif is_aspired and not version.is_aspired and version.state is State.AVAILABLE:
                # In any other state a dropped version ends first; then a new one takes its place.
                version.dropped.clear()
                self._monitor.publish(version)

    def _unload_if_unused(self, version: Version) -> None:
        with self._lock:
            if version.state is not State.UNLOADING or version.leases or version.servable is None:
                return
            # Taken out under the lock, so that only one thread closes it.
            servable, version.servable = version.servable, None
        try:
            servable.close()
        except Exception:
            _log.exception("%s: closing it failed", version)
        with self._lock:
            self._set_state(version, State.END)
        _log.info("%s: unloaded", version)
        self._reconcile(version.model)

    def _set_state(self, version: Version, state: State) -> None:
        """Change a state and tell the monitor. The lock is held."""
        version.state = state
        self._monitor.publish(version)

    def _check_labels(self, model: ModelConfig, before: ModelConfig | None = None) -> None:
        """Check that the labels of a model name versions that are available.

        As in TensorFlow Serving, the option that allows others holds only for labels that do not move.
        """
        available = self._monitor.available(model.name)
        for label, number in model.labels.items():
            moves = before is not None and before.labels.get(label, number) != number
            is_allowed = self._options.allow_labels_for_unavailable and not moves
            if number not in available and not is_allowed:
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {model.name}, "
                    "which is not currently available for inference",
                )
