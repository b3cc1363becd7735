"""docs/models.md: the table of models names every member of the zoo."""

from __future__ import annotations

import re

from support.processes import ROOT
from zoo import ZOO
from zoo.odd_cases import ODD_CASES
from zoo.table import page

# At the beginning of a line of a table.
_NAME = r"^\| `([^`]+)` \|"

OUTCOME = {
    "name": "din",
    "kind": "Deep Interest Network",
    "form": "functional",
    "tolerance": 1e-5,
    "refusal": None,
    "by_ids_refusal": None,
    "executor": "tensorflow",
    "executor_reason": "node functional_5/Mul_1 (Mul): an operand that it does not know",
    "difference": 2e-7,
    "by_ids": 1.26e-6,
}


def test_a_page_has_a_line_for_each_outcome() -> None:
    refused = {**OUTCOME, "name": "Other", "refusal": "InvalidInputError: no"}
    odd = [{"case": "Empty", "answer": "InvalidInputError: x: a | b."}, {"case": "Odd", "answer": None}]
    text = page([OUTCOME, {**OUTCOME, "name": "bst", "executor": "native"}, refused], odd)
    assert "2 of 3 are exported; the native executor runs 1 of them" in text
    line = "| Deep Interest Network | functional | yes | 1e-06 | 1e-05 | TensorFlow: Mul: an operand that"
    assert f"\n| `din` {line}" in text
    assert "| yes | 1e-06 | 1e-05 | native executor |" in text
    assert text.index("\n| `Other` |") > text.index("## Models of another collection")
    assert "| functional | no: InvalidInputError: no |" in text
    assert text.endswith("| `Empty` | InvalidInputError: x: a \\| b. |\n| `Odd` | exported |\n")


def test_speed_has_a_section() -> None:
    speed = {
        "name": "din", "flops": 50_000, "tensorflow": 1_480.4, "native": 800.0, "ratio": 1.85,
        "least_ratio": 1.8, "largest_ratio": 2.04,
    }  # fmt: skip
    alone = {
        **speed,
        "name": "sim",
        "native": None,
        "ratio": None,
        "least_ratio": None,
        "largest_ratio": None,
    }
    text = page([OUTCOME], [], [speed, alone])
    assert (
        "\n| `din` | 50,000 | 1,480 | 800 | 1.9 (1.8 to 2.0) | 62 | 4.4 |"
        "\n| `sim` | 50,000 | 1,480 |  |  |  |  |\n" in text
    )
    assert "the three largest scorers reach `din` 43%." in text


def test_the_page_has_all_members_and_odd_cases() -> None:
    ours, _, rest = (ROOT / "docs/models.md").read_text().partition("## Models of another")
    assert re.findall(_NAME, ours, re.MULTILINE) == list(ZOO)
    odd = rest.partition("## Odd models")[2]
    assert re.findall(_NAME, odd, re.MULTILINE) == list(ODD_CASES)
