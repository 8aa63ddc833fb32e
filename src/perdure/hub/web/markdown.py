"""Model cards as HTML that can do nothing: rendered, then reduced to a list of harmless tags and attributes."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from html import escape, unescape
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from markupsafe import Markup

from perdure._optional import require

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

    from perdure.hub.web.links import Links

LONGEST: Final = 128 * 1024
"""Characters of a document that is rendered, and of one that is not those that are shown."""

_TAGS: Final = frozenset(
    [
        "a",
        "abbr",
        "b",
        "blockquote",
        "br",
        "caption",
        "center",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "div",
        "dl",
        "dt",
        "em",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "mark",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "u",
        "ul",
        "var",
    ]
)
_HEADINGS: Final = ("h1", "h2", "h3", "h4", "h5", "h6")
_ATTRIBUTES: Final = {
    "*": {"align", "title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
    "ol": {"start"},
    "details": {"open"},
    **{heading: {"id"} for heading in _HEADINGS},
}
_BRACKETS: Final = 4000
_CELLS: Final = 20_000
_DELIMITERS: Final = re.compile(r"[|:\-\s>*+.)0-9]*-[|:\-\s]*")  # the line below a table's head, in a quote too
_SCHEME: Final = re.compile(r"(?:https?|mailto):", re.IGNORECASE)
_IMAGE: Final = re.compile(r"<img\s[^<>]{0,2000}>", re.IGNORECASE)
_IMAGE_SAYS: Final = re.compile(r"""\s(src|alt)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""", re.IGNORECASE)
_ANCHOR: Final = "card-"  # before every id in a card, so that none of them can be one of the page's own


def renders(source: str) -> bool:
    """Whether a document can be rendered with bounded work; another one is shown as text.

    What costs is its length, brackets (each looks for its other half to the end) and tables (a line in one stands for
    as many cells as there are columns, however short it is).
    """
    return len(source) <= LONGEST and source.count("[") <= _BRACKETS and _cells(source) <= _CELLS


def _cells(source: str) -> int:
    cells = columns = 0
    for line in source.splitlines():
        if not line.strip():
            columns = 0
        elif _DELIMITERS.fullmatch(line):
            columns = line.count("|") + 1
        cells += columns
    return cells


@lru_cache(maxsize=64)  # the longest documents take a second, and are looked at more than once
def render(source: str, *, links: Links, revision: str, folder: str = "") -> Markup:
    """Markdown, with what HTML it holds, as HTML that is safe to show in a page of the hub.

    Args:
        source: The document without front matter, one that `renders`.
        links: The repository it is in, for images and links to its files.
        revision: The revision it is of.
        folder: The folder it is in, from which relative addresses count.
    """
    nh3 = require("nh3", "The hub's web page")
    parser = _parser()
    tokens = parser.parse(source)
    _prepare(tokens)
    dirty = parser.renderer.render(tokens, parser.options, {})

    def address(tag: str, attribute: str, value: str) -> str | None:
        if attribute == "src":
            return _image(value, links=links, revision=revision, folder=folder)
        if attribute == "href":
            return _link(value, links=links, revision=revision, folder=folder)
        if attribute == "id":
            return value if value.startswith(_ANCHOR) else None
        return value

    clean: str = nh3.clean(
        dirty,
        tags=set(_TAGS),
        attributes=_ATTRIBUTES,
        attribute_filter=address,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer ugc",
    )
    return Markup(clean)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    markdown_it = require("markdown_it", "The hub's web page")
    parser: MarkdownIt = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return parser


def _prepare(tokens: Sequence[Token]) -> None:
    """Ids for headings; alignment as an attribute, for styles are not let through; images of others as links."""
    seen: dict[str, int] = {}
    for token, following in zip(tokens, [*tokens, None][1:], strict=True):
        if token.type == "heading_open" and following is not None:
            slug = _slug(following.content)
            seen[slug] = seen.get(slug, -1) + 1
            token.attrSet("id", f"{_ANCHOR}{slug}" + (f"-{seen[slug]}" if seen[slug] else ""))
        style = token.attrs.pop("style", None)
        if style:
            token.attrSet("align", str(style).rpartition(":")[2])
        for child in token.children or ():
            if child.type == "image" and _is_elsewhere(str(child.attrs.get("src", ""))):
                child.content = _as_link(str(child.attrs["src"]), child.content)
                child.type, child.attrs = "html_inline", {}
            elif child.type == "html_inline":
                child.content = _IMAGE.sub(_raw_as_link, child.content)
        if token.type == "html_block":
            token.content = _IMAGE.sub(_raw_as_link, token.content)


def _raw_as_link(image: re.Match[str]) -> str:
    said = {
        name.lower(): unescape(value[1:-1] if value[0] in "\"'" else value)
        for name, value in _IMAGE_SAYS.findall(image[0])
    }
    address = said.get("src", "")
    return _as_link(address, said.get("alt", "")) if _is_elsewhere(address) else image[0]


def _as_link(address: str, words: str) -> str:
    # pages ask no other server for anything, so that nobody learns who reads a card
    return f'<a href="{escape(address)}">{escape(words) or "image"}</a>'


def _slug(heading: str) -> str:
    text = unicodedata.normalize("NFKC", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")[:80]


def _is_elsewhere(address: str) -> bool:
    address = address.strip()
    return address.startswith(("//", "\\")) or re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:", address) is not None


def _image(address: str, *, links: Links, revision: str, folder: str) -> str | None:
    if _is_elsewhere(address) or address.startswith("/"):
        return None
    path = _path(address, folder)
    return links.resolve(revision, path) if path else None


def _link(address: str, *, links: Links, revision: str, folder: str) -> str | None:
    if address.startswith("#"):
        return f"#{_ANCHOR}{quote(unquote(address[1:]))}"
    if address.startswith(("//", "\\", "/\\")):
        return None
    if _is_elsewhere(address):
        return address if _SCHEME.match(address.strip()) else None
    if address.startswith("/"):
        return address
    path = _path(address, folder)
    return links.blob(revision, path) if path else None


def _path(address: str, folder: str) -> str | None:
    """The path in the repository that a relative address means; None when it leaves it."""
    try:
        path = posixpath.normpath(posixpath.join(folder, unquote(urlsplit(address).path)))
    except ValueError:
        return None
    return None if path in {".", ".."} or path.startswith(("../", "/")) or "\0" in path else path
