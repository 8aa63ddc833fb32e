"""A model's card as one value: read, made of facts, edited and saved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from perdure.card import metadata
from perdure.card.check import Finding, check
from perdure.card.curves import CURVES, draw, picture_of
from perdure.card.document import Document, title_of
from perdure.card.facts import Facts
from perdure.card.folder import facts_of
from perdure.card.merge import Conflict, refresh
from perdure.card.reconcile import add_results
from perdure.card.render import render
from perdure.card.results import Result
from perdure.card.template import Template
from perdure.errors import InvalidInput, NotFound
from perdure.folder import amend
from perdure.folder.commit import save_failed
from perdure.folder.paths import inside
from perdure.format.names import CARD, FACTS, MANIFEST
from perdure.io import durable

_MAX_CARD = 4 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Card:
    """A model card: the text of a README.md. Cards do not change; what edits one returns another.

    >>> card = Card.parse("# My model").with_metadata({"license": "mit"}).with_results({"accuracy": 0.75})
    >>> card.metadata["license"], "| `accuracy` | 0.75 |" in card.text
    ('mit', True)

    Args:
        text: All of the file.
        conflicts: Generated parts that a person changed and that would say something new by now. They stay as they
            are.
        pictures: File → content of the pictures on the page that were drawn with it.
        facts: What it was made of, which lies beside it; None for a card that was only read.
    """

    text: str
    conflicts: tuple[Conflict, ...] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    facts: Facts | None = None

    @staticmethod
    def parse(text: str) -> Card:
        """A card from its text; any text is one."""
        return Card(text)

    @staticmethod
    def load(path: str | Path) -> Card:
        """Read a card from its file, or from the folder that holds it as README.md.

        Raises:
            NotFound: There is no such file.
            InvalidInput: It is larger than 4 MiB, or a link that leads out of the folder.
        """
        path = Path(path)
        path = inside(path, CARD) if path.is_dir() else path
        try:
            if path.stat().st_size > _MAX_CARD:
                raise InvalidInput(f"{path} is too large for a card: more than 4 MiB. It was not read.")
            # Bytes that are no UTF-8 survive the way back.
            return Card(path.read_bytes().decode(errors="surrogateescape"))
        except FileNotFoundError:
            raise NotFound(f"There is no card {path}.", hint="Make one: perdure card DIR") from None

    @staticmethod
    def from_facts(
        facts: Facts,
        *,
        existing: Card | str | None = None,
        template: str | Path | None = None,
        renew: Collection[str] = (),
        curves: bool = True,
    ) -> Card:
        """The card that says what is known of a model.

        Args:
            facts: What is known.
            existing: The card as it stands: all that a person wrote into it stays.
            template: A Jinja file that extends `card.md.jinja`; its blocks are the regions of the page.
            renew: Parts to write anew even where a person changed them, as `Conflict.part` names them.
            curves: Draw the curves of the training (needs matplotlib).

        Raises:
            NotFound: There is no such template.
            InvalidInput: The template is broken, and the message names its line; or there is no part to `renew`.
        """
        document = Document.parse(existing.text if isinstance(existing, Card) else existing or "")
        added = [result for result in document.record.results if result.added]
        history = facts.training.history if facts.training is not None else {}
        drawn = draw(history) if curves else None
        # A picture that was drawn where matplotlib is installed stays on the page where it is not.
        on_the_page = drawn is not None or document.region("curves") is not None
        rendered = render(
            facts,
            added,
            template=None if template is None else Template(template),
            picture=picture_of(history) if on_the_page else None,
        )
        document, conflicts = refresh(document, rendered, renew=renew)
        return Card(str(document), tuple(conflicts), {} if drawn is None else {CURVES: drawn}, facts)

    @staticmethod
    def from_folder(
        folder: str | Path,
        *,
        facts: Facts | None = None,
        template: str | Path | None = None,
        renew: Collection[str] = (),
        curves: bool = True,
    ) -> Card:
        """The card of a model that is saved in a folder, made of what the folder tells and of the card in it, if any.

        Args:
            folder: Where the model is.
            facts: What is known of it, as `facts_of` returns it; by default what its files say.
            template: A Jinja file that extends `card.md.jinja`.
            renew: Keys and regions to write anew even where a person changed them.
            curves: Draw the curves of the training (needs matplotlib).

        Raises:
            NotFound: There is no such folder, or no such template.
            InvalidInput: There is no model in it, or the template is broken.
        """
        folder = Path(folder)
        existing = Card.load(folder) if (folder / CARD).is_file() else None
        card = Card.from_facts(
            facts or facts_of(folder), existing=existing, template=template, renew=renew, curves=curves
        )
        # What is told by files that may change is asked of them each time.
        return card if (folder / FACTS).is_file() else replace(card, facts=None)

    def files(self) -> dict[str, bytes]:
        """What it is on disk: README.md, the pictures on its page, and the facts that it was made of."""
        kept = {FACTS: self.facts.to_json().encode()} if self.facts is not None else {}
        return {CARD: self.text.encode(errors="surrogateescape"), **self.pictures, **kept}

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What its front matter says; empty where that is no plain YAML."""
        return deepcopy(Document.parse(self.text).metadata or {})

    def with_metadata(self, values: Mapping[str, object]) -> Card:
        """Set keys of the metadata, or take them out with None; from then on they are a person's.

        Raises:
            InvalidInput: The metadata is no plain YAML, or a comment within the old value would be lost.
        """
        document = Document.parse(self.text)
        for key, value in values.items():
            front = metadata.put(document.front, key, value)
            if (metadata.parse(front) or {}).get(key) != value:
                raise InvalidInput(
                    f"The card's {key!r} cannot be set without losing what somebody wrote; it is as it was.",
                    hint="Edit README.md by hand: its metadata has comments or a form that only its author knows.",
                )
            document = replace(document, front=front)
        return replace(self, text=str(document))

    def with_results(
        self,
        results: Mapping[str, float],
        *,
        dataset: str | None = None,
        config: str | None = None,
        split: str | None = None,
        revision: str | None = None,
        task: str | None = None,
        model: str | None = None,
    ) -> Card:
        """Add what was measured to the table of results and, where a dataset is named, to the `model-index`.

        A result for the same metric, task, dataset and split is replaced, whoever wrote it; all others stay, and so
        they do when the card is made anew of facts. A table that a template of your own made is a `Conflict`, and has
        them when that is next used.

        Args:
            results: Metric → value.
            dataset: The Hub id of what it was measured on.
            config: The dataset's configuration.
            split: Its split.
            revision: Its commit.
            task: The Hub's name of what was done; the card's `pipeline_tag` if not said.
            model: The model's name in the index; the card's title if not said.

        Raises:
            InvalidInput: A value is no number, `dataset` is no Hub id, or the index needs a task or name that the
                card does not have.
        """
        document = Document.parse(self.text)
        known = document.metadata or {}
        tag = known.get("pipeline_tag")
        task = task or (tag if isinstance(tag, str) else None)
        if dataset is not None and task is None:
            raise InvalidInput("The card names no task, which the Hub files results under.", hint="Say task=...")
        new = [
            Result(
                metric=metric, value=value, task=task if dataset else None, dataset=dataset, config=config, split=split,
                revision=revision, added=True,
            )
            for metric, value in results.items()
        ]  # fmt: skip
        if dataset is not None and not (model or known.get("model-index") or title_of(document)):
            raise InvalidInput("The card has no title, which the Hub files results under.", hint="Say model=...")
        document, conflicts = add_results(document, new, model=model)
        return replace(self, text=str(document), conflicts=tuple(conflicts))

    def check(self, folder: str | Path | None = None) -> tuple[Finding, ...]:
        """What is wrong or missing: metadata that the Hub refuses, placeholders, local paths, secrets, conflicts.

        Args:
            folder: Where the card lies: links to files are followed there, and the facts beside it compared with what
                a person changed.
        """
        place = None if folder is None else Path(folder)
        conflicts = self.conflicts
        if not conflicts and place is not None and (place / FACTS).is_file():
            conflicts = Card.from_facts(facts_of(place), existing=self, curves=False).conflicts
        told = (
            Finding(kind="conflict", part=one.part, message=f"{one} (to take that: --renew {one.part})")
            for one in conflicts
        )
        return (*check(Document.parse(self.text), place), *told)

    def save(self, folder: str | Path) -> Path:
        """Write its `files` into a folder, each at once; a folder that perdure saved stays whole to `verify`.

        Raises:
            NotFound: There is no such folder.
            SaveFailed: The system refused; the old card is whole.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise NotFound(f"There is no folder {folder}; the card was not written.")
        if (folder / MANIFEST).exists():
            inside(folder, CARD)
            amend(folder, self.files())
        else:
            for name, content in self.files().items():
                _replace(inside(folder, name), content)
        return folder / CARD


def _replace(path: Path, content: bytes) -> None:
    """Put a file in its place at once."""
    staged = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        durable.write_file(staged, [content])
        staged.replace(path)
        durable.fsync_folder(path.parent)
    except OSError as error:
        raise save_failed(path, error) from error
    finally:
        staged.unlink(missing_ok=True)
