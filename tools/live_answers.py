"""Answers of a server while its items change, each compared with the items of the segment that it names."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.live import State, open_base, replay, updates_dir
from nann.serving.client import NannClient, NannClientError

# Few beside the load that is measured, and enough for some hundred answers in each round.
ASK_SECONDS = 0.05
# Of squared distances, computed here in float64 and there in float32 from products of 64 values.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Answer:
    user: npt.NDArray[np.float32]
    segment: int
    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


class AnswerCheck(threading.Thread):
    """Asks for the best items of random users until it is stopped; `wrong` checks the answers afterwards.

    users: float32 [n, D]. The export is one of vectors, with the input `query_emb`.
    """

    def __init__(self, client: NannClient, beams: list[int], users: npt.NDArray[np.float32]) -> None:
        super().__init__(daemon=True)
        self.failed = 0
        self._client, self._beams, self._users = client, beams, users
        self._answers: list[_Answer] = []
        self._stopped = threading.Event()

    def __enter__(self) -> AnswerCheck:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        asked = 0
        while not self._stopped.wait(ASK_SECONDS):
            user = self._users[asked % len(self._users)]
            asked += 1
            try:
                answer = self._client.top_k({"query_emb": user[np.newaxis]}, self._beams, min_segment=0)
            except NannClientError:
                self.failed += 1
                continue
            segment: Any = answer.applied_segment
            self._answers.append(_Answer(user, int(segment), answer.ids[0], answer.scores[0]))

    @property
    def checked(self) -> int:
        """Answers that came."""
        return len(self._answers)

    def wrong(self, model_dir: Path) -> int:
        """Answers that the items of their segment do not explain.

        In a right answer each item is live, is there once and has the score of its vector of that moment, the
        scores descend, and nothing is padded. Whether the items are the best ones is agreement, which
        `measure_live.py` measures.
        """
        state, wrong = State(open_base(model_dir)), 0
        segments = replay(state, updates_dir(model_dir))
        for answer in sorted(self._answers, key=lambda each: each.segment):
            while state.applied < answer.segment:
                next(segments)
            wrong += not _is_right(answer, state)
        return wrong


def _is_right(answer: _Answer, state: State) -> bool:
    positions = [state.position_of(int(item)) for item in answer.ids]
    if None in positions or len(set(positions)) < len(positions):
        return False
    vectors = state.rows("item_embs", np.array(positions, np.int64)).astype(np.float64)
    expected = -((vectors - answer.user) ** 2).sum(axis=1)
    if not np.allclose(answer.scores, expected, rtol=TOLERANCE, atol=TOLERANCE):
        return False
    return bool((np.diff(answer.scores) <= 0).all())
