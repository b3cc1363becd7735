"""Live items: segments, the state that they make of an export, and the publisher that writes them.

Importing this package does not import TensorFlow; the first use of a name that needs it does.

In the examples MODELS/nann/1 is an export of 500 items of width 8 with room for 50 new ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nann.lazy import lazy_names
from nann.live.segment import Segment as Segment
from nann.live.segment import read_segment as read_segment
from nann.live.segment import segment_numbers as segment_numbers
from nann.live.segment import segment_path as segment_path
from nann.live.segment import updates_dir as updates_dir
from nann.live.segment import write_segment as write_segment

if TYPE_CHECKING:
    from nann.live.base import Base as Base
    from nann.live.base import open_base as open_base
    from nann.live.publisher import Published as Published
    from nann.live.publisher import Publisher as Publisher
    from nann.live.publisher import roll_back as roll_back
    from nann.live.state import State as State
    from nann.live.state import replay as replay

__getattr__ = lazy_names(
    __name__,
    {
        "nann.live.base": ("Base", "open_base"),
        "nann.live.publisher": ("Published", "Publisher", "roll_back"),
        "nann.live.state": ("State", "replay"),
    },
    extra={"tensorflow": ("faiss", "tensorflow")},
)
