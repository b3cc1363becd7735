"""Publisher and compaction are killed at random points: nothing is lost, nothing twice, nothing half."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nann.live import open_base, segment_numbers, updates_dir
from support.live import expected_items, items_of, new_rows, random_events, write_lines

POLL_SECONDS = 0.001


def nann(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nann", *map(str, arguments), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> bool:
    """SIGKILL when `reached()`; False where the process has ended before."""
    while process.poll() is None:
        if reached():
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(POLL_SECONDS)
    process.wait()
    return process.returncode == -signal.SIGKILL


def finish(process: subprocess.Popen[bytes]) -> dict[str, object]:
    out, err = process.communicate()
    assert process.returncode == 0, err.decode()
    result: dict[str, object] = json.loads(out)
    return result


def publish_with_kills(model_dir: Path, events: Sequence[bytes], kills: int, seed: int) -> None:
    """Publish `events` by processes of which each but the last is killed while it writes segments."""
    chance = random.Random(seed)
    path = write_lines(model_dir.parent / "items.jsonl", events)
    options = ("--model", model_dir, "--source", path, "--once", "--max-delay", 0, "--segment-items", 3)
    folder, killed = updates_dir(model_dir), 0
    while killed < kills:
        wanted = len(segment_numbers(folder)) + chance.randint(1, 4)
        if not kill_when(
            nann("publish", *options), lambda wanted=wanted: len(segment_numbers(folder)) >= wanted
        ):
            break
        killed += 1
    finish(nann("publish", *options))
    base = open_base(model_dir)
    assert killed == kills
    assert items_of(model_dir) == expected_items(base, events)
    assert new_rows(model_dir) == sum(b"embedding" in event for event in events)


def test_a_killed_publisher_goes_on_where_it_was(model_dir: Path) -> None:
    events = random_events(open_base(model_dir), 60, seed=0, repeat=False)
    publish_with_kills(model_dir, events, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_publisher_that_is_killed_200_times(model_dir: Path) -> None:
    events = random_events(open_base(model_dir), 148, seed=0, repeat=False)
    for seed in range(200 // 10):
        for name in os.listdir(updates_dir(model_dir)) if updates_dir(model_dir).exists() else []:
            (updates_dir(model_dir) / name).unlink()
        publish_with_kills(model_dir, events, kills=10, seed=seed)


def compact_with_kills(model_dir: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    events = random_events(open_base(model_dir), 40, seed=seed)
    path = write_lines(model_dir.parent / "items.jsonl", events)
    finish(nann("publish", "--model", model_dir, "--source", path, "--once", "--segment-items", 10))
    before, models = items_of(model_dir), model_dir.parent
    for _ in range(kills):
        process = nann("compact", "--model", model_dir, "--out", models / "2")
        # Its folder under a hidden name, with more and more files.
        while process.poll() is None and not list(models.glob(".2.writing-*/assets/*")):
            time.sleep(POLL_SECONDS)
        files = chance.randint(1, 12)
        if kill_when(process, lambda files=files: len(list(models.glob(".2.writing-*/assets/*"))) >= files):
            assert not (models / "2").exists()
        for left in models.glob(".2.writing-*"):
            subprocess.run(["rm", "-r", str(left)], check=True)
        assert items_of(model_dir) == before
        if (models / "2").exists():
            break
    if not (models / "2").exists():
        finish(nann("compact", "--model", model_dir, "--out", models / "2"))
    assert items_of(models / "2") == before
    assert segment_numbers(updates_dir(models / "2")) == segment_numbers(updates_dir(model_dir))[-1:]


def test_a_killed_compaction_leaves_nothing_half(model_dir: Path) -> None:
    compact_with_kills(model_dir, kills=1, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_compaction_that_is_killed_often(model_dir: Path) -> None:
    compact_with_kills(model_dir, kills=40, seed=1)
