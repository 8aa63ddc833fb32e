"""A repository's first page: its card, what is known of it, and how to get it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from starlette.responses import Response

from perdure.hub import auth
from perdure.hub.core import Call
from perdure.hub.db import Repo
from perdure.hub.git import MAIN
from perdure.hub.web import markdown, metrics, view
from perdure.hub.web.facts import Facts, facts_of
from perdure.hub.web.links import Links

_TAGS = 40
_CHIP = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One fact of a card's metadata."""

    label: str
    text: str


def card(call: Call) -> Response:
    """The card of a revision, rendered, with facts and download commands beside it."""
    revision = call.query("revision", MAIN)
    with call.git() as git:
        facts = facts_of(call.hub, git, git.resolve(revision))
        rendered = None
        if facts.readme is not None and markdown.renders(facts.card):
            rendered = markdown.render(facts.card, links=Links.to(call.repo), revision=revision)
        return view.render(
            call,
            git,
            "repo.html",
            tab="card",
            revision=revision,
            facts=facts,
            card=rendered,
            plain=facts.card[: markdown.LONGEST],
            chips=chips(facts),
            results=metrics.of(git, facts.commit).metrics if auth.may_download(call.caller, call.repo) else {},
            commands=commands(call.repo, call.base, revision),
        )


def chips(facts: Facts) -> list[Chip]:
    """A card's metadata in the order people look for it, each short enough to be looked at."""
    labels = {
        "pipeline_tag": "task",
        "library_name": "library",
        "license": "license",
        "base_model": "base model",
        "datasets": "dataset",
        "language": "language",
        "tags": "",
    }
    found = [Chip(label=label, text=text[:_CHIP]) for key, label in labels.items() for text in facts.texts(key) if text]
    return list(dict.fromkeys(found))[:_TAGS]


def commands(repo: Repo, endpoint: str, revision: str) -> list[tuple[str, str]]:
    """How to download a revision: for each tool, what to type, with a token where it takes one."""
    name, other, closed = repo.full_name, revision != MAIN, bool(repo.private or repo.gated)
    dataset = repo.kind == "dataset"
    hf = f"export HF_ENDPOINT={endpoint}{' HF_TOKEN=hf_...' if closed else ''}\nhf download {name}"
    hf += " --repo-type dataset" if dataset else ""
    hf += f" --revision {shlex.quote(revision)}" if other else ""
    arguments = [f'"{name}"', f'endpoint="{endpoint}"']
    arguments += ['repo_type="dataset"'] if dataset else []
    arguments += [f"revision={revision!r}"] if other else []
    arguments += ['token="hf_..."'] if closed else []
    lines = "".join(f"    {argument},\n" for argument in arguments)
    python = f"from huggingface_hub import snapshot_download\n\nfolder = snapshot_download(\n{lines})"
    clone = "# its password is your token\n" if closed else ""
    clone += f"git clone {endpoint}{Links.to(repo).base}"
    git = clone + (f"\ngit -C {shlex.quote(repo.name)} checkout {shlex.quote(revision)}" if other else "")
    return [("hf", hf), ("Python", python), ("git, with git-lfs", git)]
