"""`nann bench peers`: other libraries and this project's walks on the same vectors, at the same recall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nann.lazy import lazy_names

if TYPE_CHECKING:
    from nann.bench.peers.rounds import PeerOptions as PeerOptions
    from nann.bench.peers.rounds import compare_in_one_thread as compare_in_one_thread
    from nann.bench.peers.stock import compare_stock as compare_stock

__getattr__ = lazy_names(
    __name__,
    {
        "nann.bench.peers.rounds": ("PeerOptions", "compare_in_one_thread"),
        "nann.bench.peers.stock": ("compare_stock",),
    },
)
