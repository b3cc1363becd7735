"""A publisher that follows versions: what a compaction does not carry over is published for its version."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nann.live import open_base
from nann.live.compact import compact
from nann.live.follow import next_version, publish_versions
from nann.live.loop import Totals
from nann.live.state import State
from nann.progress import ignore_progress
from support.command import run_json
from support.live import expected_items, items_of, random_events, upsert, write_export, write_lines
from support.live_ops import wait_for

D = 8


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_export(tmp_path, items=120)


class Seen:
    """Wakes whoever waits for a version, when a segment is published for it."""

    def __init__(self) -> None:
        self._changed, self._version, self._segment = threading.Condition(), "", 0

    def on_segment(self, totals: Totals, state: State) -> None:
        with self._changed:
            self._version, self._segment = state.base.model_dir.name, state.applied
            self._changed.notify_all()

    def wait_for(self, version: str, segment: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: (self._version, self._segment) >= (version, segment))


def test_it_goes_on_with_the_version_that_a_compaction_makes(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nann.live.compact as module

    base = open_base(model_dir)
    events = random_events(base, 60, seed=0, repeat=False)
    source, seen, stopped = tmp_path / "items.jsonl", Seen(), threading.Event()
    results: list[Any] = []

    def publish() -> None:
        results.append(
            publish_versions(
                model_dir,
                str(source),
                follow=True,
                stop=stopped.is_set,
                on_progress=ignore_progress,
                on_segment=seen.on_segment,
                max_delay=0.0,
            )
        )

    def add(some: list[bytes]) -> None:
        with source.open("ab") as file:
            file.write(b"".join(event + b"\n" for event in some))

    write_lines(source, events[:20])
    publisher = threading.Thread(target=publish)
    publisher.start()
    seen.wait_for("1", 1)
    verify, carry_over = module.verify_model, module._carry_over

    def add_before(*arguments: Any, **options: Any) -> Any:
        add(events[20:40])  # Carried over.
        seen.wait_for("1", 2)
        return verify(*arguments, **options)

    def add_after(*arguments: Any) -> int:
        carried = carry_over(*arguments)
        add(events[40:])  # Published for the former version alone, and again for the next one.
        seen.wait_for("1", 3)
        return carried

    monkeypatch.setattr(module, "verify_model", add_before)
    monkeypatch.setattr(module, "_carry_over", add_after)
    out = model_dir.with_name("2")
    assert compact(model_dir, out)["carried"] >= 1
    add([upsert(1, np.ones(D))])
    seen.wait_for("2", 3)
    wait_for(lambda: items_of(out) == expected_items(base, [*events, upsert(1, np.ones(D))]))
    stopped.set()
    publisher.join()
    totals, state = results[0]
    assert state.base.model_dir == out
    assert totals.events >= len(events) + 1


def test_versions_without_an_overlay_and_other_folders_are_no_next_version(
    model_dir: Path, tmp_path: Path
) -> None:
    write_export(tmp_path / "other", items=120, share=0.0)
    shutil.copytree(tmp_path / "other/models/nann/1", model_dir.with_name("3"))
    model_dir.with_name("latest").mkdir()
    model_dir.with_name("4").mkdir()  # Being copied.
    assert next_version(model_dir) is None
    shutil.copytree(model_dir, model_dir.with_name("10"))
    shutil.copytree(model_dir, model_dir.with_name("9"))
    assert next_version(model_dir) == model_dir.with_name("10")
    assert next_version(model_dir.with_name("10")) is None


def test_the_command_ends_at_the_end_of_the_last_version(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, model_dir.with_name("2"))
    source = write_lines(tmp_path / "items.jsonl", [upsert(1, np.ones(D))])
    shown = run_json("publish", "--model", model_dir, "--source", source, "--once", "--follow")
    assert Path(shown["model"]) == model_dir.with_name("2")
    assert 1 in items_of(model_dir.with_name("2"))
