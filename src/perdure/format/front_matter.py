"""The YAML at the head of a README.md: read so that no text takes much more time or memory than its length."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml

_DEEPEST: Final = 50
_STRING: Final = "tag:yaml.org,2002:str"
_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"
_SAFE: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class FrontMatterError(ValueError):
    """It is YAML that is not read; the message is for the person who wrote it."""


class _Loader(_SAFE):  # type: ignore[misc]
    """PyYAML's safe one, which makes plain values alone: without the numbers in base 60 of YAML 1.1, whose value takes
    the square of their length, and those so long that Python does not print them. `1:30:00` is text, as it is to the
    Hub.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [(tag, pattern) for tag, pattern in known if tag not in (_INT, _FLOAT)]
        for first, known in _SAFE.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    _INT,
    re.compile(r"[-+]?(0b[01_]{1,999}|0x[0-9a-fA-F_]{1,999}|0[0-7_]{0,999}|[1-9][0-9_]{0,999})\Z"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
    ),
    list("-+.0123456789"),
)


def compose(source: str) -> tuple[yaml.Node | None, Any]:
    """The tree of one YAML document, which knows the place of each value in the text; and what it says.

    Raises:
        FrontMatterError: It is nested too deep, or uses anchors (a few lines of which can stand for gigabytes) or tags
            (which make values of what is none).
        yaml.YAMLError: It is no YAML.
        ValueError: A value in it is none, such as the 31st of February.
    """
    _check_events(source)
    loader = _Loader(source)
    try:
        root = loader.get_single_node()
        return root, None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _check_events(source: str) -> None:
    """Refuse what is small as text and large as a value; stops at the first event that is too deep.

    The parser in C goes down a level of its stack for each level of the text, and the process with it.
    """
    depth = 0
    for event in yaml.parse(source, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise FrontMatterError("The metadata uses YAML anchors, which are not supported.")
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag not in (None, _STRING):
            raise FrontMatterError("The metadata uses YAML tags, which are not supported.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise FrontMatterError(f"The metadata is nested more than {_DEEPEST} deep.")
