"""docs/models.md of what `zoo.outcome` printed: a line for each model."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import ZOO
from zoo.outcome import ITEMS, USERS
from zoo.speed import ITEMS as ITEMS_OF_SPEED
from zoo.speed import ROUNDS

# How a reason begins: with the name of a node of the graph, which a reader does not have.
_NODE = re.compile(r"^node \S+ \((\w+)\): ")

_HEADER = """
| model | kind | form | exported | difference | tolerance | runs by |
|---|---|---|---|---|---|---|
"""
_PAGE = """\
# Models that were exported

Every model below is written as ranking code, exported without a change, and asked for scores that are
compared with its own. {exported} of {all} are exported; the native executor runs {native} of them,
TensorFlow's kernels the others. The page is made by

```
PYTHONPATH=tests .venv/bin/python -m zoo.outcome build/zoo [NAME or FILE.py:Class ...] > build/models.jsonl
PYTHONPATH=tests .venv/bin/python -m zoo.odd_outcome build/odd > build/odd.jsonl
PYTHONPATH=tests .venv/bin/python -m zoo.speed > build/speed.jsonl
PYTHONPATH=tests .venv/bin/python -m zoo.table build/{{models,odd,speed}}.jsonl > docs/models.md
```

- Form: `functional` and `subclassed` are Keras networks, `TensorFlow` is a `tf.Module` without Keras,
  `SavedModel` is a folder with the three functions, whose export needs no Python code of the model.
- Difference: the largest from the model's own scores, relative to the largest score, of `score` ({users}
  users, {items} items each) and of what `retrieve_by_ids` finds. Models that compute in float16 or
  bfloat16 have a tolerance of four roundings of that type.
- Runs by: what TensorFlow runs, the scorer or a part of it, has the same scores and is slower.
  `nann check --run RUN` says why, and what to change in the model.
- NaN and infinity: sums, products, comparisons, `tf.where`, softmax and casts give what TensorFlow gives.
  TensorFlow does not define the order of a NaN in `tf.sort`, `tf.argsort` and `tf.math.top_k`, nor the
  largest and smallest value of a segment with a NaN: the native executor may differ there, and in
  `tf.math.cumprod` after an overflow. Rounding gives 0 where TensorFlow gives -0, which a division by it
  shows. Magnitudes above 1e37 may become infinities and those below 1e-37
  zeros. TensorFlow refuses an index beyond a table; the native executor reads zeros there. It
  refuses a matrix without an inverse or a Cholesky factor; that of an item gives NaN or infinity natively.
  A search never returns an item whose score is a NaN.
"""
_OTHERS = """
## Models of another collection

{number} scorers that were written elsewhere, given as `FILE.py:Class`. The code is as it was; the weights are
random, the corpus is that of `tests/zoo`, and a vocabulary has as many ids as the model's table has rows for.
"""

_SPEED = """
## Speed

Nanoseconds for an item of a request of {items:,} items, by one thread: the same export run by TensorFlow's
kernels and by the native executor, in turns; medians of {rounds} rounds. The ratio is that of one round: its
median and its range. Both run the split scorer; FLOPs are those that are left for an item.
{largest} The limit
is the ratio at that peak: no executor whose time is FLOPs alone can be so many times as fast as TensorFlow.

| model | FLOPs | TensorFlow, ns | native, ns | ratio | GFLOP/s | limit |
|---|---|---|---|---|---|---|
"""
# One core of an Intel Xeon with AMX, float32: what TensorFlow reaches on matrices of 1,024 x 1,024.
_PEAK_GFLOPS = 147
# A limit from which on it is none: other things take the time.
_FAR = 10.0

_ODD = """
## Odd models, and what their authors read

{number} tiny models that are odd or wrong in one way each (`tests/zoo/odd_*.py`). Each is exported, or
refused in a sentence that says what was found and what to do; {bare} end in an exception of TensorFlow or
Python.

| case | answer |
|---|---|
"""


def page(
    outcomes: Sequence[Mapping[str, Any]],
    answers: Sequence[Mapping[str, Any]],
    speeds: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page of what the three programs printed; members of the zoo stand first."""
    ours = [_row(each) for each in outcomes if each["name"] in ZOO]
    others = [_row(each) for each in outcomes if each["name"] not in ZOO]
    exported = [each for each in outcomes if _is_exported(each)]
    native = sum(each["executor"] == "native" for each in exported)
    table = _HEADER + "".join(ours)
    if others:
        table += _OTHERS.format(number=len(others)) + _HEADER + "".join(others)
    if speeds:
        table += speed_section(speeds)
    numbers = {"exported": len(exported), "all": len(outcomes), "native": native}
    bare = sum((each["answer"] or "").startswith("bare ") for each in answers)
    table += _ODD.format(number=len(answers), bare=bare) + "".join(_answer(each) for each in answers)
    return _PAGE.format(**numbers, users=USERS, items=ITEMS) + table


def speed_section(speeds: Sequence[Mapping[str, Any]]) -> str:
    """The section of what `zoo.speed` printed."""
    native = sorted((each for each in speeds if each["native"]), key=lambda each: -each["flops"])[:3]
    shares = ", ".join(
        f"`{each['name']}` {each['flops'] / each['native'] / _PEAK_GFLOPS:.0%}" for each in native
    )
    largest = (
        f"One core multiplies at {_PEAK_GFLOPS} GFLOP/s; of that the three largest scorers reach {shares}."
    )
    return _SPEED.format(items=ITEMS_OF_SPEED, rounds=ROUNDS, largest=largest) + "".join(map(_speed, speeds))


def _speed(line: Mapping[str, Any]) -> str:
    flops = f"{line['flops']:,}" if line["flops"] else "not split"
    cells = [f"`{line['name']}`", flops, f"{line['tensorflow']:,.0f}"]
    if line["native"] is None:
        cells += ["", "", "", ""]
    else:
        spread = f"{line['ratio']:.1f} ({line['least_ratio']:.1f} to {line['largest_ratio']:.1f})"
        cells += [f"{line['native']:,.0f}", spread]
        cells += [f"{line['flops'] / line['native']:.0f}", _limit(line)] if line["flops"] else ["", ""]
    return f"| {' | '.join(cells)} |\n"


def _limit(line: Mapping[str, Any]) -> str:
    """How many times as fast as TensorFlow the products alone would be at the processor's peak."""
    limit = line["tensorflow"] * _PEAK_GFLOPS / line["flops"]
    return f"{limit:.1f}" if limit < _FAR else "far"


def _answer(line: Mapping[str, Any]) -> str:
    answer = "exported" if line["answer"] is None else line["answer"].replace("|", "\\|")
    return f"| `{line['case']}` | {answer} |\n"


def _is_exported(outcome: Mapping[str, Any]) -> bool:
    return outcome["refusal"] is None and outcome["by_ids_refusal"] is None


def _row(outcome: Mapping[str, Any]) -> str:
    cells = [f"`{outcome['name']}`", outcome["kind"], outcome["form"]]
    if _is_exported(outcome):
        difference = max(outcome["difference"], outcome["by_ids"])
        cells += ["yes", f"{difference:.1g}", f"{outcome['tolerance']:.2g}", _runner(outcome)]
    else:
        cells += [f"no: {outcome['refusal'] or outcome['by_ids_refusal']}", "", "", ""]
    return f"| {' | '.join(cells)} |\n"


def _runner(outcome: Mapping[str, Any]) -> str:
    if outcome["executor"] == "native":
        return "native executor"
    return "TensorFlow: " + _NODE.sub(r"\1: ", outcome["executor_reason"])


def main() -> None:
    """`PYTHONPATH=tests python -m zoo.table MODELS ODD SPEED`: files of what the three programs printed."""
    models, odd, speeds = (
        [json.loads(line) for line in Path(file).read_text().splitlines()] for file in sys.argv[1:]
    )
    print(page(models, odd, speeds), end="")


if __name__ == "__main__":
    main()
