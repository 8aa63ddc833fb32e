"""A worker of an outbox that waits for nothing: `python fast_worker.py RUN`, with the token in `HF_TOKEN`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import huggingface_hub.utils._http as client

from perdure.publishing.outbox_store import Store
from perdure.publishing.outbox_worker import Worker


class _Clock:
    """The client's clock, on which waiting takes no time."""

    time = staticmethod(time.time)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, 0.01))


def main(run: Path) -> None:
    client.time = _Clock  # type: ignore[attr-defined]
    worker = Worker(Store(run), wait=lambda failures: 0.01)
    while True:
        worker.work()
        time.sleep(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
