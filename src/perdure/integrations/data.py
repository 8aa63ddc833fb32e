"""What a run was fed with, as a card may tell it: a Hub's dataset at its commit, or rows and a digest; never a path."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Literal
from weakref import WeakKeyDictionary

from perdure.card.allowed import is_sayable
from perdure.card.facts import Dataset
from perdure.format.hub_id import is_hub_id

_ON_HUB = re.compile(r"hf://datasets/([^@\s]+)@([0-9a-f]{7,64})/")
# Where the `datasets` library keeps what it downloaded: NAMESPACE___NAME/CONFIG/VERSION/COMMIT/FILE.
_IN_CACHE = re.compile(r"[/\\]([^/\\]+)[/\\]([^/\\]+)[/\\]\d+\.\d+\.\d+[/\\]([0-9a-f]{40})[/\\][^/\\]+\.arrow$")
_MAX_DIGESTED = 64 * 2**20  # bytes of a dataset that is digested: less than half a second
_DEEPEST = 50  # transformations of a stream, one around the other
_MOST_FILES = 1000

Use = Literal["training", "evaluation"]

_digests: WeakKeyDictionary[Any, tuple[Any, str | None]] = WeakKeyDictionary()


def datasets_of(data: Any, *, use: Use = "training", named: Iterable[str] = ()) -> tuple[Dataset, ...]:
    """What is known of data: a dataset, a list, a stream, or several of them by name.

    Args:
        data: What a loop reads, or None.
        use: What for.
        named: Hub ids that the caller knows it by; they win over what is found.
    """
    parts = list(data.values()) if isinstance(data, Mapping) else [] if data is None else [data]
    found = tuple(record for part in parts for record in _records(part, use))
    names = tuple(named)
    if not names or {record.id for record in found} == set(names):
        return found
    if len(names) == 1 and len(found) == 1 and found[0].id is None:
        return (replace(found[0], id=names[0]),)
    return tuple(Dataset(id=name, use=use) for name in names)


def _records(data: Any, use: Use) -> Iterator[Dataset]:
    on_hub = _on_hub(data)
    if len(on_hub) > 1:  # joined from several: how many rows came from which is not known
        yield from (Dataset(id=name, revision=revision, use=use) for (name, _, revision) in on_hub)
        return
    rows = _rows(data)
    split = _sayable(str(getattr(data, "split", None)))
    if on_hub:
        name, config, revision = on_hub[0]
        yield Dataset(id=name, config=config, split=split, rows=rows, revision=revision, use=use)
    elif rows is not None or split is not None:
        yield Dataset(split=split, rows=rows, fingerprint=_fingerprint(data), use=use)


def _rows(data: Any) -> int | None:
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def _on_hub(data: Any) -> list[tuple[str, str | None, str]]:
    """Id, configuration and commit of what was read from a Hub."""
    said = getattr(getattr(data, "info", None), "config_name", None)
    config = _sayable(said) if said != "default" else None
    places = [(match[1], config, match[2]) for file in _addresses(data) for match in [_ON_HUB.match(file)] if match]
    for kept in islice(getattr(data, "cache_files", None) or (), _MOST_FILES):
        if match := _IN_CACHE.search(str(kept.get("filename", ""))):
            of_file = _sayable(match[2]) if match[2] != "default" else None
            places.append((match[1].replace("___", "/", 1), of_file, match[3]))
    return list(dict.fromkeys(place for place in places if is_hub_id(place[0])))


def _addresses(data: Any) -> Iterator[str]:
    """The files that data was made from, where it still knows their addresses."""
    checksums = getattr(getattr(data, "info", None), "download_checksums", None)
    yield from map(str, islice(checksums or (), _MOST_FILES))
    inner = getattr(data, "_ex_iterable", None)
    for _ in range(_DEEPEST):
        arguments = getattr(inner, "kwargs", None)
        if isinstance(arguments, Mapping):
            for name in ("files", "base_files", "filepaths"):
                listed = arguments.get(name)
                if isinstance(listed, (list, tuple)):
                    yield from map(str, listed[:_MOST_FILES])
        inner = getattr(inner, "ex_iterable", None)


def _fingerprint(data: Any) -> str | None:
    """A digest of the rows where there are few, and otherwise what the `datasets` library tells versions apart by.

    The library's own depends on when a file was written.
    """
    own = getattr(data, "_fingerprint", None)
    if not isinstance(own, str):
        return None
    known = _digests.get(data)
    if known is None or known[0] != own:
        known = _digests[data] = (own, _digest(data))
    return known[1] or _sayable(own)


def _digest(data: Any) -> str | None:
    try:
        if data.data.nbytes > _MAX_DIGESTED:
            return None
        digest = hashlib.sha256()
        for table in data.with_format("arrow").iter(1000):
            for batch in table.replace_schema_metadata(None).combine_chunks().to_batches():
                digest.update(str(batch.schema).encode())
                digest.update(batch.serialize())
        return f"sha256:{digest.hexdigest()}"
    except Exception:  # a column that cannot be put into a table again: the dataset is as good without a digest
        return None


def _sayable(text: object) -> str | None:
    return text if isinstance(text, str) and is_sayable(text) else None
