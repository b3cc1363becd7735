"""`nann query --feature NAME=VALUE,...`: text becomes values of the model's types."""

from __future__ import annotations

from typing import Any

import pytest

from nann.cli._features import features_of, split_named
from nann.errors import InvalidInputError
from nann.serving.client import TensorSpec

_INPUTS = {
    "city": TensorSpec("string", (-1,)),
    "words": TensorSpec("string", (-1, -1)),
    "hour": TensorSpec("int64", (-1, 1)),
    "ids": TensorSpec("int64", (-1, 5)),
    "prices": TensorSpec("float", (-1, -1)),
    "pairs": TensorSpec("float", (-1, -1, 2)),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("city=Paris", ["Paris"]),
        ("city=17", ["17"]),
        ("city=", [""]),
        ('city="Paris, Texas"', ["Paris, Texas"]),
        ("words=a,17,true", ["a", "17", "true"]),
        ('words=["a,b", "c"]', ["a,b", "c"]),
        ("words=[red]", ["[red]"]),
        ("hour=7", [7]),
        ("ids=3,1", [3, 1]),
        ("ids=", []),
        ("prices=0.5,2", [0.5, 2]),
        ("pairs=[1, 2], [3, 4]", [[1, 2], [3, 4]]),
        ("unknown=1,2", [1, 2]),
        ("unknown=Paris,Rome", ["Paris", "Rome"]),
        ("timeout=5", [5]),
    ],
)
def test_values_have_the_types_of_the_model(text: str, expected: list[Any]) -> None:
    name, values = split_named(text)
    assert features_of([(name, values)], _INPUTS) == {name: expected}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["hour=noon"], "--feature: expected values of type int64 for hour, found 'noon'"),
        (["hour=1,2"], "--feature: expected one value of hour, found 2 in '1,2'"),
        (["city=Paris,Rome"], "--feature: expected one value of city, found 2 in 'Paris,Rome'"),
        (["hour=1", "hour=2"], "--feature: expected hour once, found it twice"),
    ],
)
def test_values_refused(texts: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        features_of(map(split_named, texts), _INPUTS)
