"""Untrusted text in Markdown: whatever a name holds, it is shown, and starts no markup, HTML or new line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"[\\`*\[\]|~$]|^[#+-](?=[# ]|$)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line ends
_ENDS = re.compile(r"[()<>\\]")  # of a link's address
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def one_line(value: str) -> str:
    """`value` on one line, without control characters and those that reverse the direction of writing."""
    visible = "".join(
        " " if character.isspace() else character
        for character in value
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")
    )
    return " ".join(visible.split())


def text(value: str) -> str:
    r"""`value` as plain text of a paragraph, heading or table cell.

    >>> print(text("<b>|x|</b> my_model [a](b)"))
    &lt;b&gt;\|x\|&lt;/b&gt; my_model \[a\](b)
    """
    return _MARKUP.sub(lambda match: "\\" + match[0], one_line(value)).translate(_ENTITIES)


def code(value: str) -> str:
    """`value` as an inline code span that no backtick in it can end.

    >>> code("lr"), code("a`b")
    ('`lr`', '`` a`b ``')
    """
    content = one_line(value)
    if "`" not in content:
        return f"`{content}`" if content else ""
    ticks = "`" * (1 + max(len(run) for run in re.findall(r"`+", content)))
    return f"{ticks} {content} {ticks}"


def link(label: str, address: str) -> str:
    """A link; `address` must be a web address or a path of a Hub, which holds no spaces."""
    target = _ENDS.sub(lambda match: f"%{ord(match[0]):02X}", address)
    return f"[{text(label)}]({target})"


def fence(language: str, content: str) -> str:
    """A fenced block that no backticks in `content` can end, and that moves no terminal's cursor."""
    content = _CONTROLS.sub("", content)
    longest = max((len(run) for run in re.findall(r"`+", content)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{content.rstrip()}\n{ticks}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code_cell(value: str) -> str:
    """A code span for a table, where `|` ends the cell even within code unless it is escaped."""
    return code(value).replace("|", "\\|")
