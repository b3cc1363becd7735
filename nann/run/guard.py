"""Errors of a model's own code as sentences: function, line, arguments, and what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from nann.errors import InvalidInputError, NannError
from nann.run._autograph import by_autograph_if_needed, exception_in, line_in
from nann.run.model import item_state_of, scores_batches

# Lines of these are not the user's to correct: a message names the last line that lies elsewhere.
_LIBRARIES = {"h5py", "keras", "nann", "numpy", "optree", "tensorflow", "tf_keras", *sys.stdlib_module_names}
# Characters of another library's message: a sentence or two. The original is the cause of ours.
_LONGEST = 200
# What TensorFlow writes around a message: colours, the node with its attributes, the operation.
_NOISE = re.compile(r"\x1b\[[0-9;]*m|\{\{function_node .*?\}\} | for '\{\{node .*?\)'|\[Op:\w+\] name: ?")

# What other libraries say of ordinary slips -> what to do; the first that is found counts.
_ADVICE = {
    r"as a Python `?bool": "A Python `if` or `while` cannot depend on a tensor here: use tf.where or "
    "tf.cond.",
    r"Iterating over a symbolic": "A Python loop cannot go over a tensor here: use whole tensors, or "
    "tf.map_fn.",
    r"'numpy'|numpy\(\)|to a numpy array|NumPy": "NumPy cannot be traced: use operations of TensorFlow or "
    "Keras, and network(x) in place of network.predict(x).",
    r"only supports singleton tf\.Variable|create variables": "Make layers and variables once, in from_run "
    "or the constructor: tracing may make none.",
    r"No module named|cannot import name": "Put the module into RUN, install its package, or put its folder "
    "on PYTHONPATH.",
    r"incompatible with the layer|is incompatible with": "Give the network the shapes that it was built for.",
    r"FileNotFoundError|No such file": "Put the file where the code looks for it, or correct the path.",
    r"Could not locate class '(Functional|Sequential)'": "Keras 2 wrote the file: load it by "
    "tf_keras.models.load_model.",
    r"Could not locate (class|function)|Cannot deserialize object of type": "Import what defines it before "
    "the network is loaded, as Python code can do: nann.export.from_keras takes networks that are loaded.",
    r"tf.keras to be Keras version 2": "Set TF_USE_LEGACY_KERAS=1 in the environment.",
    r"safe_mode=False": "Load it in Python by keras.saving.load_model(file, safe_mode=False) if you trust "
    "it, and give it to nann.export.from_keras.",
    r"positional arguments? but": "The functions are embed_user(features) and score(user_state, item_embs), "
    "with item_state as a third argument where the model declares it.",
    r"^KeyError": "Use the names that user_features and user_state declare.",
}
# What Keras says last, behind the configuration of a whole network.
_NOT_LOCATED = re.compile(r"Could not locate (?:class|function) '[^']*'")
_CORRECT = "Correct the model's code."
# What TensorFlow and Keras say of tensors with a dimension too few or too many.
_WRONG_RANK = re.compile(r"\b[Rr]anks?\b|incompatible with")
_OF_PAIRS = " A score that is written for a batch of pairs says so by batch_score = True."


@contextmanager
def own_code(
    function: str, called_with: Callable[[], str] | None = None, *, may_be_of_pairs: bool = False
) -> Iterator[None]:
    """Within, an exception of the model's code becomes an InvalidInputError that names `function`.

    called_with:     describes the arguments; called only when something breaks.
    may_be_of_pairs: whether to mention `batch_score` where a tensor has the wrong number of dimensions.

    Errors of this project pass as they are.
    """
    try:
        yield
    except NannError:
        raise
    except Exception as error:
        arguments = "" if called_with is None else f" It was called with {called_with()}."
        raise InvalidInputError(
            f"{function}: expected code that runs, found {said(error)}{_where(error)}."
            f"{arguments} {_advice(error)}{_OF_PAIRS if may_be_of_pairs and _has_wrong_rank(error) else ''}"
        ) from error


def said(error: BaseException) -> str:
    """The type and the first line of what another library says: "KeyError: 'usr'"."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    kind, text = exception_in(text) or (type(error).__name__, text)
    text = _NOISE.sub("", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        del lines[0]
    if lines and lines[0].startswith("Graph execution error"):
        # Where the graph was made comes first, then what is wrong, then the node.
        lines = [line for line, after in pairwise(lines) if after.startswith("[[{{node")] or lines
    not_located = _NOT_LOCATED.search(text)
    first = not_located.group() if not_located else lines[0] if lines else ""
    if len(first) > _LONGEST:
        sentence = first.find(". ")
        first = first[:sentence] if 0 < sentence < _LONGEST else f"{first[:_LONGEST]}..."
    return f"{kind}: {first}".rstrip(": .")


class GuardedModel:
    """A `RetrievalModel` whose functions end in a sentence where they break.

    check_results: whether what they return must be as the protocol has it too.

    Everything else of the model is passed through.
    """

    def __init__(self, model: Any, *, check_results: bool = False) -> None:
        self.unguarded = model
        self._check_results = check_results

    def __getattr__(self, name: str) -> Any:
        if name == "unguarded":  # while this object is being made or copied
            raise AttributeError(name)
        if name not in _RESULTS:
            return getattr(self.unguarded, name)
        function, check = getattr(self.unguarded, name), _RESULTS[name]

        def call(*arguments: Any, **options: Any) -> Any:
            may_be_of_pairs = name == "score" and not scores_batches(self.unguarded)
            with own_code(name, lambda: _described_arguments(arguments), may_be_of_pairs=may_be_of_pairs):
                result = by_autograph_if_needed(function, *arguments, **options)
                if self._check_results:
                    check(self.unguarded, result)
            return result

        return call


def guarded(model: Any, *, check_results: bool = False) -> GuardedModel:
    """`model`, guarded once."""
    inside = model.unguarded if isinstance(model, GuardedModel) else model
    return GuardedModel(inside, check_results=check_results)


def _check_user_state(model: Any, result: Any) -> None:
    declared = ", ".join(model.user_state)
    if not isinstance(result, Mapping):
        raise InvalidInputError(
            f"embed_user: expected a dict of the tensors that user_state declares ({declared}), found "
            f'{described(result)}. Return {{"{next(iter(model.user_state))}": ...}}.'
        )
    if set(result) != set(model.user_state):
        raise InvalidInputError(
            f"embed_user: expected the tensors {sorted(model.user_state)} as user_state has them, found "
            f"{sorted(map(str, result))}. Correct the model."
        )
    for name, spec in model.user_state.items():
        found, expected = result[name], [None, *spec.shape.as_list()]
        numeric = _is_number(getattr(found, "dtype", None)) or not _is_number(spec.dtype)
        if not _is_tensor(found) or not numeric or not found.shape.is_compatible_with(expected):
            raise InvalidInputError(
                f"embed_user: expected {name} as {_tensor(spec.dtype, ['B', *expected[1:]])}, a row for each "
                f"user, found {described(found)}. Correct embed_user, or the shape in user_state."
                f"{_too_deep(model, found, len(expected))}"
            )


def _too_deep(model: Any, found: Any, rank: int) -> str:
    """What to say of a dimension too many: features may be declared with a batch, [None, L] and not [L]."""
    if not _is_tensor(found) or (found.shape.rank or 0) <= rank:
        return ""
    shapes = {name: getattr(spec, "shape", None) for name, spec in model.user_features.items()}
    names = [name for name, shape in shapes.items() if shape is not None and shape.rank and shape[0] is None]
    if not names:
        return ""
    return f" user_features has no batch dimension: the None of {', '.join(names)} is any number of values."


def _check_scores(model: Any, result: Any) -> None:
    expected = "expected one tensor of scores, float32 [n]"
    if isinstance(result, Mapping | list | tuple):
        raise InvalidInputError(
            f"score: {expected}, found {described(result)}. Return the one to rank by, or a weighted sum."
        )
    if not _is_tensor(result):
        raise InvalidInputError(
            f"score: {expected}, found {described(result)}. Compute it by operations of TensorFlow or Keras: "
            f"what NumPy or Python computes is not part of the graph."
        )
    if not _is_number(result.dtype):
        raise InvalidInputError(
            f"score: {expected}, found {described(result)}. Return real numbers, higher is better."
        )


def _check_items(model: Any, result: Any) -> None:
    declared = item_state_of(model)
    embs, state = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if not isinstance(state, Mapping) or set(state) != set(declared):
        expected = f"(item_embs, a dict of {', '.join(declared)})" if declared else "item_embs"
        found = "no item state" if state == {} else described(state)
        raise InvalidInputError(
            f"embed_item: expected {expected} as item_state declares, found {found}. Correct the model."
        )
    tensors = {"item_embs": ([model.embedding_dim], embs)}
    tensors |= {name: (spec.shape.as_list(), state[name]) for name, spec in declared.items()}
    for name, (shape, found) in tensors.items():
        if not _is_tensor(found) or not found.shape.is_compatible_with([None, *shape]):
            raise InvalidInputError(
                f"embed_item: expected {name} as a tensor [{', '.join(map(str, ['n', *shape]))}], a row for "
                f"each item, found {described(found)}. Correct the model."
            )


# The functions of a model, and what their results must be.
_RESULTS: dict[str, Callable[[Any, Any], None]] = {
    "embed_user": _check_user_state,
    "embed_item": _check_items,
    "score": _check_scores,
}


def described(value: Any) -> str:
    """A value for messages: "float32 [128, 8]", "a dict of click, buy", "None"."""
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(map(str, value))}"
    if value is None:
        return "None"
    if _is_tensor(value):
        return _tensor(value.dtype, value.shape)
    kind = f"{type(value).__module__}.{type(value).__qualname__}".replace("numpy.ndarray", "a NumPy array")
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return kind.removeprefix("builtins.")


def _described_arguments(arguments: tuple[Any, ...]) -> str:
    parts = []
    for value in arguments:
        if isinstance(value, Mapping):
            tensors = ", ".join(f"{name}: {described(each)}" for name, each in value.items())
            parts.append(f"{{{tensors}}}")
        else:
            parts.append(described(value))
    return " and ".join(parts)


def _tensor(dtype: Any, shape: Any) -> str:
    name = getattr(dtype, "name", str(dtype))
    if getattr(shape, "rank", 0) is None:
        return f"{name} of unknown rank"
    return f"{name} [{', '.join('?' if size is None else str(size) for size in shape)}]"


def _is_tensor(value: Any) -> bool:
    """Whether TensorFlow can use it as one dense tensor; TensorFlow is not imported for this."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return False
    return isinstance(value, tensorflow.Tensor | tensorflow.Variable)


def _is_number(dtype: Any) -> bool:
    return bool(getattr(dtype, "is_floating", False) or getattr(dtype, "is_integer", False)) or (
        getattr(dtype, "is_bool", False)
    )


def _where(error: BaseException) -> str:
    """Where the user's own code broke, for messages: " (model.py, line 12: return x / 0)"."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    frames = list(_own_frames(error.__traceback__))
    last = line_in(str(error)) or (frames[-1] if frames else None)
    if last is None:
        return ""
    file, line = last
    # Imported here: only a failure reads source files.
    import linecache

    source = linecache.getline(file, line).strip()
    return f" ({Path(file).name}, line {line}{': ' if source else ''}{source.rstrip('.')})"


def _own_frames(trace: TracebackType | None) -> Iterator[tuple[str, int]]:
    """File and line of the frames that are neither ours nor a known library's."""
    while trace is not None:
        frame = trace.tb_frame
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        file = frame.f_code.co_filename
        known = module in _LIBRARIES and module != "__main__"
        if not known and "__autograph_generated_file" not in file and not file.startswith("<"):
            yield file, trace.tb_lineno
        trace = trace.tb_next


def _advice(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    return next((advice for words, advice in _ADVICE.items() if re.search(words, text)), _CORRECT)


def _has_wrong_rank(error: BaseException) -> bool:
    return _WRONG_RANK.search(str(error)) is not None
