"""Live items: segments, and the choice of links for new items."""

from __future__ import annotations

from nann.live.segment import Segment as Segment
from nann.live.segment import read_segment as read_segment
from nann.live.segment import segment_numbers as segment_numbers
from nann.live.segment import segment_path as segment_path
from nann.live.segment import updates_dir as updates_dir
from nann.live.segment import write_segment as write_segment
