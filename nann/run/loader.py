"""Loading the model of a run: `"model": "module:Class"` in run.json."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import FileFinder
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from nann.errors import InvalidFileError
from nann.run.description import RUN_FILE, read_run
from nann.run.guard import GuardedModel, guarded, own_code
from nann.run.keras_model import load_keras
from nann.run.model import RetrievalModel, check_model
from nann.run.saved_model import SavedModel

# What run.json may name in place of a module: a folder in the run.
_FOLDERS = {"keras": load_keras, "saved_model": SavedModel}
# Held while sys.path and sys.modules are those of one run. Loading one run may load another.
_lock = threading.RLock()


def load_model(run_dir: str | Path) -> RetrievalModel:
    """Restore the trained model of a run: `Class.from_run(run_dir)` of the class that run.json names.

    `"saved_model:DIR"` is a SavedModel in `run_dir / DIR` (`SavedModel`), `"keras:DIR"` a folder of .keras
    files (`load_keras`). Otherwise Python looks for the module in `run_dir` first. Modules in `run_dir`
    belong to this run alone: another run whose files have the same names gets its own. The model's functions
    may import such modules at any time.

    Raises InvalidFileError when the module or the class does not exist or is no `RetrievalModel`, and
    InvalidInputError when its code breaks; so do the functions of the model that is returned.

    Example:
      >>> load_model("RUN").embedding_dim
      8
    """
    run_dir = Path(run_dir)
    module_name, class_name = read_run(run_dir).model.split(":")
    if module_name in _FOLDERS:
        return cast(RetrievalModel, guarded(_FOLDERS[module_name](run_dir / class_name)))
    where = f"{run_dir / RUN_FILE}: model"
    modules = _RunModules(run_dir.resolve())
    with modules.importable():
        model_class = getattr(_imported(module_name, where, run_dir), class_name, None)
        if not hasattr(model_class, "from_run"):
            raise InvalidFileError(
                f"{where}: expected a class with from_run(run_dir) in {module_name}, found "
                f"{class_name} = {model_class!r}. Correct run.json or the module."
            )
        model = _restored(cast(Any, model_class), where, run_dir)
        check_model(model)
    return cast(RetrievalModel, guarded(_ModelOfRun(model, modules) if modules.found else model))


def _restored(model_class: Any, where: str, run_dir: Path) -> Any:
    """What `from_run` of the class returns."""
    if inspect.isfunction(inspect.getattr_static(model_class, "from_run")):
        raise InvalidFileError(
            f"{where}: expected {model_class.__name__}.from_run as a class method, found a plain one. Write "
            f"@classmethod above it."
        )
    with own_code("from_run", lambda: f"run_dir = {run_dir}"):
        model = model_class.from_run(run_dir)
    if model is None:
        raise InvalidFileError(
            f"{where}: expected {model_class.__name__}.from_run to return a model, found None. Return it."
        )
    return model


def class_name(model: RetrievalModel) -> str:
    """The class of `model` as run.json names one: `module:Class`."""
    model = model.unguarded if isinstance(model, GuardedModel) else model
    model = model._model if isinstance(model, _ModelOfRun) else model
    # A trained model may be wrapped, too: what names the class is its own.
    model_class = type(getattr(model, "wrapped_model", model))
    return f"{model_class.__module__}:{model_class.__qualname__}"


def _imported(module_name: str, where: str, run_dir: Path) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise InvalidFileError(
            f"{where}: expected an importable module, found {module_name!r} ({error}). Put it into "
            f"{run_dir}, install the package that holds it, or put its folder on PYTHONPATH."
        ) from error
    except Exception:
        with own_code(f"{where} {module_name}"):
            raise


class _RunModules:
    """The modules that lie in one run folder, kept out of `sys.modules` while no code of the run runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found: dict[str, ModuleType] = {}

    @contextlib.contextmanager
    def importable(self) -> Iterator[None]:
        """Within the block, imports look in the run folder first, as they do in the folder of a script."""
        with _lock:
            others = self._others()
            for name in others:
                del sys.modules[name]
            last_known = next(reversed(sys.modules))
            sys.modules.update(self.found)
            sys.path.insert(0, str(self._folder))
            self._forget_listings()
            try:
                yield
            finally:
                sys.path.remove(str(self._folder))
                # New modules stand at the end. To look at all, thousands, takes longer than many a model.
                new = itertools.takewhile(lambda name: name != last_known, reversed(list(sys.modules)))
                self.found = {name: sys.modules[name] for name in new if self._is_ours(sys.modules[name])}
                for name in self.found:
                    del sys.modules[name]
                sys.modules.update(others)

    def _others(self) -> dict[str, ModuleType]:
        """Imported modules whose names the run folder has too, and those within them."""
        packages = {file.parent.name for file in self._folder.glob("*/__init__.py")}
        tops = packages | {file.stem for file in self._folder.glob("*.py")}
        imported = {top for top in tops if top in sys.modules}
        if not imported:
            return {}
        modules = list(sys.modules.items())  # Other threads import meanwhile.
        return {name: module for name, module in modules if name.partition(".")[0] in imported}

    def _forget_listings(self) -> None:
        """Have Python list the run folder anew: it may have changed since Python did so last."""
        for path, finder in list(sys.path_importer_cache.items()):
            if path.startswith(str(self._folder)) and isinstance(finder, FileFinder):
                finder.invalidate_caches()

    def _is_ours(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        return file is not None and self._folder in Path(file).parents


class _ModelOfRun:
    """A model whose functions run where its run's modules can be imported."""

    def __init__(self, model: Any, modules: _RunModules) -> None:
        self._model = model
        self._modules = modules

    def __getattr__(self, name: str) -> Any:
        with self._modules.importable():
            value = getattr(self._model, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            with self._modules.importable():
                return value(*arguments, **options)

        return call
