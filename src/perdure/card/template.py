"""The page of a card as a Jinja template, whose blocks are the regions; and templates of a user's own.

A template is a program: it runs sandboxed, sees the facts and what formats them, and neither files nor Python.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.card import wording
from perdure.errors import InvalidInput, NotFound
from perdure.format.hub_id import HUB

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

BASE = "card.md.jinja"
_OWN = "template"  # the name of a user's template, in Jinja's eyes
_MAX_TEMPLATE = 2**20  # bytes
_TEMPLATES = Path(__file__).with_name("templates")
_MARKS = re.compile(r"^(<!-- /?perdure:)", re.MULTILINE)  # at the head of a line they end a region


class Template:
    """A card's template: the one that perdure ships, or a file that extends it.

    Attributes:
        regions: Its blocks, in the order of the page.
        own: Those that a user's file overrides or adds.

    Raises:
        NotFound: There is no such file.
        InvalidInput: It is no template; the message names the line.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        from jinja2 import TemplateError, nodes

        self._path = BASE if path is None else str(path)
        self._is_shipped = path is None
        self._environment = _environment()
        source = (_TEMPLATES / BASE).read_text(encoding="utf-8") if path is None else _read(Path(path))
        try:
            tree = self._environment.parse(source, filename=self._path)
            own = tuple(block.name for block in tree.find_all(nodes.Block))
            self.own = () if path is None else own
            self.regions = _order(tree, self._path, self._environment)
            code = self._environment.compile(source, _OWN, self._path)
            self._template = self._environment.template_class.from_code(
                self._environment, code, self._environment.make_globals(None)
            )
        except TemplateError as error:
            raise self._broken(error, getattr(error, "lineno", None)) from error

    def render(self, values: Mapping[str, object]) -> dict[str, str]:
        """Region → Markdown, in the order of the page; empty where a block has nothing to say."""
        context = self._template.new_context(dict(values))
        try:
            for _ in self._template.root_render_func(context):  # links the blocks with those that they override
                pass
            return {name: _tidy(context.blocks[name][0](context)) for name in self.regions}
        except Exception as error:  # whatever a template does wrong, it is the template's
            if self._is_shipped:
                raise
            raise self._broken(error, self._line(error)) from error

    def block(self, name: str, values: Mapping[str, object]) -> str:
        """One region's Markdown."""
        context = self._template.new_context(dict(values))
        return _tidy(context.blocks[name][0](context))

    def _line(self, error: Exception) -> int | None:
        """The template's line that an error came from: the last one in the code that it was compiled to."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self._path]
        return self._template.get_corresponding_lineno(frames[-1].lineno or 1) if frames else None

    def _broken(self, error: Exception, line: int | None) -> InvalidInput:
        where = f"{self._path}, line {line}" if line else self._path
        return InvalidInput(
            f"{where}: {str(getattr(error, 'message', None) or error).rstrip('.')}. No card was written.",
            hint=f'A template of cards begins with {{% extends "{BASE}" %}} and overrides blocks of it.',
        )


@cache
def shipped() -> Template:
    """The template that every card has unless somebody says otherwise."""
    return Template()


@cache
def _environment() -> Environment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(wording.FILTERS)
    environment.globals.update(hub=HUB, homes=wording.HOMES)
    return environment


def _tidy(parts: Iterable[str]) -> str:
    """A region without the blank lines that a template's own lines leave; a lone section heading says nothing."""
    content = re.sub(r"\n{3,}", "\n\n", "".join(parts).strip())
    content = _MARKS.sub(r" \1", content)
    return "" if re.fullmatch(r"##+ .*", content) else content


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEMPLATE:
            raise InvalidInput(f"{path} is too large for a template: more than 1 MiB.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no template {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as a template: {error}.") from error


def _order(tree: nodes.Template, path: str, environment: Environment) -> tuple[str, ...]:
    """The blocks, in the order of the page: those of a template's own come after the ones that they follow in it."""
    from jinja2 import nodes
    from jinja2.exceptions import TemplateSyntaxError

    own: list[str] = []
    extends = False
    for node in tree.body:
        if isinstance(node, nodes.Block):
            own.append(node.name)
        extends = extends or isinstance(node, nodes.Extends)
        if isinstance(node, nodes.Output) and any(not _is_blank(part) for part in node.nodes):
            raise TemplateSyntaxError("what stands outside of a block has no place on the page", node.lineno, path)
    if not extends:
        return tuple(own)
    order = list(shipped().regions)
    for index, name in enumerate(own):
        if name not in order:
            order.insert(order.index(own[index - 1]) + 1 if index else len(order), name)
    return tuple(order)


def _is_blank(part: Any) -> bool:
    return not getattr(part, "data", "x").strip()
