"""Take docs/console.png: the console of a server that serves the demo, after a minute of requests.

make demo && .venv/bin/nann serve --model_name nann --model_base_path build/demo/models/nann &
PYTHONPATH=tests .venv/bin/python tools/draw_console.py localhost:8500 localhost:8501 docs/console.png
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from nann.serving.client import NannClient
from support.chromium import Page, find_chromium

# Requests per second, for so many seconds each.
RATES, SECONDS = (20, 40, 30, 50), 15
BEAMS = [100, 200, 200, 200, 200, 50]


def main(grpc: str, rest: str, path: Path) -> None:
    """Ask for a while, run a retrieval in the page, and take its picture."""
    program = find_chromium()
    assert program is not None, "tools/install_system_packages chromium-headless-shell"
    page = Page(program, width=1280, height=1000)
    page.call("Page.navigate", url=f"http://{rest}/")
    with NannClient(grpc, model="nann") as client:
        for rate in RATES:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                client.top_k_by_ids([171, 111, 256, 5, 74], [5, 5, 5, 6, 1], level_topn=BEAMS)
                time.sleep(1 / rate)
    page.evaluate("document.querySelector('[name=item_ids]').value = '171, 111, 256, 5, 74'")
    page.evaluate("document.querySelector('[name=cate_ids]').value = '5, 5, 5, 6, 1'")
    page.evaluate(f"document.querySelector('[name=level_topn]').value = '{BEAMS}'.slice(1, -1)")
    page.evaluate("document.querySelector('#retrieve').click()")
    page.wait_for("document.querySelectorAll('#walk circle').length")
    page.screenshot(path)
    page.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
