"""The files of an attribute: a typed column of the items, which filters read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The arrays of an attribute, in the order in which the ops take their paths; docs/filters.md#files has them.
PARTS = ("values", "valid", "offsets", "element_valid", "dictionary", "dictionary_offsets")


@dataclass(frozen=True)
class AttributeFiles:
    """An attribute in .npy files, one row per position.

    type:  int64, float32, bool, string, or list<...> of these.
    files: part (one of PARTS) -> file. `values` is always there; a part that is absent is not needed.

    Example:
      >>> AttributeFiles("price", "float32", {"values": Path("assets/attribute_price.npy")}).paths
      ['assets/attribute_price.npy', '', '', '', '', '']
    """

    name: str
    type: str
    files: dict[str, Path]

    @property
    def paths(self) -> list[str]:
        """One path per part, in the order of PARTS; empty where the part is absent."""
        return [str(self.files.get(part, "")) for part in PARTS]
