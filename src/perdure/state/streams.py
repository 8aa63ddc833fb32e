"""Hugging Face's iterable datasets, which tell their state, but not as others do.

A state that one of them has loaded is where every later pass of the same epoch begins, too. It leaves the content of
shuffle buffers out, and where workers divide such a dataset it is not taken at all.
"""

from __future__ import annotations

from typing import Any


def is_stream(part: object) -> bool:
    """Whether it is a `datasets.IterableDataset`."""
    return any(
        kind.__name__ == "IterableDataset" and kind.__module__.partition(".")[0] == "datasets"
        for kind in type(part).__mro__
    )


def is_shuffled(stream: Any) -> bool:
    """Whether it keeps samples in a buffer, so that its state does not say which come next."""
    waiting = [getattr(stream, "_ex_iterable", None)]
    while waiting:
        part = waiting.pop()
        if type(part).__name__ == "BufferShuffledExamplesIterable":
            return True
        waiting += [*getattr(part, "ex_iterables", ()), *filter(None, [getattr(part, "ex_iterable", None)])]
    return False
