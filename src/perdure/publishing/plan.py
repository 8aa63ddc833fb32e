"""Compare a local folder with a remote tree: what one commit has to add, change and delete. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from perdure.format.names import ADAPTER_CONFIG, CARD, MANIFEST, is_for_resuming, is_training_state, is_weights
from perdure.publishing.subfolder import joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a push would do; paths are relative, with `/`, sorted.

    Args:
        add: Local files that the remote tree lacks.
        change: Local files that differ from the remote ones of the same path.
        delete: Remote files of an earlier save that the folder no longer has.
        keep: Local files that the remote tree has already, byte for byte.
        sizes: Path → bytes of each: the local file's, and for `delete` the remote one's.
    """

    add: tuple[str, ...]
    change: tuple[str, ...]
    delete: tuple[str, ...]
    keep: tuple[str, ...]
    sizes: Mapping[str, int]

    def below(self, folder: str) -> Plan:
        """The same plan for a folder of the repository: with the paths that its files have there."""
        add, change, delete, keep = (
            tuple(joined(folder, path) for path in paths) for paths in (self.add, self.change, self.delete, self.keep)
        )
        sizes = {joined(folder, path): size for path, size in self.sizes.items()}
        return Plan(add=add, change=change, delete=delete, keep=keep, sizes=sizes)

    @property
    def empty(self) -> bool:
        """Whether the remote tree is already what it should be."""
        return not (self.add or self.change or self.delete)

    @property
    def nbytes(self) -> int:
        """Bytes of `add` and `change` together."""
        return sum(self.sizes[path] for path in self.send)

    @property
    def send(self) -> tuple[str, ...]:
        """The files whose bytes go out."""
        return tuple(sorted(self.add + self.change))


def make_plan(
    local: Mapping[str, int], remote: Mapping[str, int], *, same: Collection[str], saved_before: Collection[str]
) -> Plan:
    """Plan one commit.

    Args:
        local: Path → size in bytes of each file to publish.
        remote: The same of the remote tree.
        same: Paths whose local and remote bytes are equal.
        saved_before: Paths that the remote manifest names: files of an earlier save, not added by a person.

    What a person may have written on the Hub is never deleted: only files of an earlier save are, and weights or
    index or adapter config, which would load in place of the new ones; and a trainer's own state, where a checkpoint
    brings another. A folder without weights replaces nothing.

    >>> plan = make_plan({"model.safetensors": 5}, {"LICENSE": 1, "model-00001-of-00002.safetensors": 9},
    ...                  same=(), saved_before=())
    >>> plan.add, plan.delete
    (('model.safetensors',), ('model-00001-of-00002.safetensors',))
    """
    has_weights = any(is_weights(path) for path in local)
    has_state = any(is_for_resuming(path) for path in local)

    def is_stale(path: str) -> bool:
        if path in local or path == CARD or not has_weights:
            return False
        if path in saved_before or path in (MANIFEST, ADAPTER_CONFIG) or is_weights(path):
            return True
        return has_state and is_training_state(path)

    changed = {path for path in local if path in remote and path not in same}
    added = {path for path in local if path not in remote}
    stale = {path for path in remote if is_stale(path)}
    return Plan(
        add=tuple(sorted(added)),
        change=tuple(sorted(changed)),
        delete=tuple(sorted(stale)),
        keep=tuple(sorted(local.keys() - added - changed)),
        sizes={**local, **{path: remote[path] for path in stale}},
    )
