"""Questions and answers from text that every machine with Python has; nothing is downloaded or made up.

Each source yields `(subject, answer)` facts from the standard library's own words; a fact becomes a pair by
putting its subject into the source's question. What the text says differs a little between Python versions
and operating systems (`os.strerror` speaks for the C library), so counts do too.
"""

from __future__ import annotations

import builtins
import errno
import http
import inspect
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_LONGEST_ANSWER = 70  # characters; keeps every conversation short, so that a CPU learns them all in a minute
_SENTENCE = re.compile(r"([A-Z].*?)(?:[.](?=\s|$)|:?$)")
_NOT_AN_ANSWER = re.compile(r"See |(New|Added|Changed) in version|.*->")
_HEADING = re.compile(r"^(.+)\n[*=\-~]{4,}$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One question with the one answer that counts as right.

    Attributes:
        source: The standard-library module the answer comes from.
        question: Unique among all pairs.
        answer: A single line, as the source has it but for white space.
    """

    source: str
    question: str
    answer: str


def pairs() -> tuple[Pair, ...]:
    """Every pair, in an order that is the same on every run.

    >>> [pair.answer for pair in pairs() if pair.question == "What does HTTP status 404 mean?"]
    ['Not Found: Nothing matches the given URI.']
    """
    found: dict[str, Pair] = {}
    for source, question, facts in _SOURCES:
        for subject, answer in facts():
            pair = Pair(source=source, question=question.format(subject), answer=answer)
            if len(answer) <= _LONGEST_ANSWER:
                found.setdefault(pair.question, pair)
    return tuple(found.values())


def _error_numbers() -> Iterator[tuple[str, str]]:
    for number, name in sorted(errno.errorcode.items()):
        yield name, f"{os.strerror(number)}."


def _http_statuses() -> Iterator[tuple[str, str]]:
    for status in http.HTTPStatus:
        meaning = f"{status.phrase}: {status.description}" if status.description else status.phrase
        yield str(status.value), f"{meaning.rstrip('.')}."


def _signals() -> Iterator[tuple[str, str]]:
    for number in signal.Signals:
        meaning = signal.strsignal(number)
        if meaning:
            yield number.name, f"{meaning.partition(':')[0]}."  # macOS appends ": 15"


def _exceptions() -> Iterator[tuple[str, str]]:
    for name, value in sorted(vars(builtins).items()):
        if isinstance(value, type) and issubclass(value, BaseException) and value.__name__ == name:
            yield from _first_sentence(name, inspect.getdoc(value) or "")


def _functions() -> Iterator[tuple[str, str]]:
    for name, value in sorted(vars(builtins).items()):
        if inspect.isbuiltin(value) and not name.startswith("_"):
            yield from _first_sentence(f"{name}()", inspect.getdoc(value) or "")


def _methods() -> Iterator[tuple[str, str]]:
    for kind in (str, list, dict, set):
        for name in sorted(vars(kind)):
            if not name.startswith("_"):
                yield from _first_sentence(f"{kind.__name__}.{name}()", inspect.getdoc(getattr(kind, name)) or "")


def _documentation() -> Iterator[tuple[str, str]]:
    for title, body in _topics():
        yield from _first_sentence(re.sub(r"^The ", "the ", title), body)


def _topics() -> Iterator[tuple[str, str]]:
    """Title and text of each documentation topic."""
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError:  # some distributions ship Python without its documentation
        return
    for _, text in sorted(topics.items()):
        if heading := _HEADING.match(text):
            yield heading[1], _HEADING.sub("", text)


def _first_sentence(subject: str, text: str) -> Iterator[tuple[str, str]]:
    """The sentence that opens the first paragraph of prose; signatures and grammar are no prose."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        sentence = _SENTENCE.match(" ".join(paragraph.split()))
        if sentence and not _NOT_AN_ANSWER.match(sentence[1]):
            yield subject, f"{sentence[1]}."
            return


_SOURCES: tuple[tuple[str, str, Callable[[], Iterator[tuple[str, str]]]], ...] = (
    ("errno", "What does {} mean?", _error_numbers),
    ("http.HTTPStatus", "What does HTTP status {} mean?", _http_statuses),
    ("signal", "What does signal {} mean?", _signals),
    ("builtins", "When is {} raised?", _exceptions),
    ("builtins", "What does {} do?", _functions),
    ("builtins", "What does {} do?", _methods),
    ("pydoc_data.topics", "What does Python's documentation say about {}?", _documentation),
)
