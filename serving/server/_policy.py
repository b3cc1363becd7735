"""The order of loads and unloads: TensorFlow Serving's AvailabilityPreservingPolicy.

While versions change, a model that serves goes on serving, at the price of the memory of two versions. The
functions are pure; the manager calls them with its lock held.
"""

from __future__ import annotations

from collections.abc import Collection

from nann.serving.server._versions import State, Version


def next_to_unload(versions: Collection[Version], *, keep_one: bool) -> Version | None:
    """Return the lowest available version of a model that is not aspired; None if none may go.

    With `keep_one`, the model should serve: its only available version stays until another one is available,
    even if all that are aspired fail to load.
    """
    available = [version for version in versions if version.state is State.AVAILABLE]
    if keep_one and len(available) == 1:
        return None
    spare = [version for version in available if not version.is_aspired]
    return min(spare, key=lambda version: version.number, default=None)


def next_to_load(versions: Collection[Version]) -> Version | None:
    """Return the highest version of a model that is not loaded yet; None while another one is loading.

    A version that waits for its next try, or is not aspired any more, delays no other.
    """
    if any(v.state is State.LOADING and v.is_aspired and not v.is_retrying for v in versions):
        return None
    new = [version for version in versions if version.state is State.START]
    return max(new, key=lambda version: version.number, default=None)
