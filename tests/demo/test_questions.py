"""Questions exist on every supported Python, each with one answer."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

from perdure.demo.questions import pairs
from perdure.demo.run import EXAMPLE


def test_there_are_plenty_from_every_source() -> None:
    by_source: dict[str, int] = {}
    for pair in pairs():
        by_source[pair.source] = by_source.get(pair.source, 0) + 1
    assert set(by_source) == {"errno", "http.HTTPStatus", "signal", "builtins", "pydoc_data.topics"}
    assert min(by_source.values()) >= 20
    assert sum(by_source.values()) >= 300


def test_questions_are_unique_and_nothing_is_empty() -> None:
    found = pairs()
    assert len({pair.question for pair in found}) == len(found)
    for pair in found:
        assert pair.question.endswith("?")
        assert pair.answer.endswith(".")
        assert not pair.answer.endswith("..")
        assert len(pair.answer) > len(".")
        assert "\n" not in pair.question + pair.answer


def test_answers_are_the_sources_own_words() -> None:
    answers = {pair.question: pair.answer for pair in pairs()}
    assert answers[EXAMPLE] == os.strerror(errno.ENOENT) + "."
    assert answers["What does HTTP status 404 mean?"] == "Not Found: Nothing matches the given URI."
    assert answers["What does signal SIGKILL mean?"].startswith("Killed")
    assert answers["What does abs() do?"] == "Return the absolute value of the argument."


def test_the_order_is_always_the_same() -> None:
    """In other processes, too, whatever order their sets have."""
    code = "from perdure.demo.questions import pairs; print(*pairs(), sep=chr(10))"
    listed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(listed) == 1
