"""Are a repository's refs all there? What nothing refers to can be told only where they are."""

from __future__ import annotations

from collections.abc import Iterator

from dulwich.errors import NotGitRepository

from perdure.hub.db import Database, Repo
from perdure.hub.discussions import Discussions
from perdure.hub.git import MAIN, GitRepo
from perdure.hub.http import ApiError
from perdure.hub.repos import GitRepos


def missing_refs(repos: GitRepos, db: Database, repo: Repo) -> list[str]:
    """What a repository's refs lack, in words: the folder itself, a branch, a tag, what a pull request proposes."""
    try:
        with repos.open(repo.id) as git:
            return [*_unreadable(git), *_without_commits(git, Discussions(db), repo)]
    except ApiError:
        return [f"its folder repos/{repo.id}.git is missing"]
    except NotGitRepository:
        return [f"its folder repos/{repo.id}.git is no git repository any more"]


def _unreadable(git: GitRepo) -> Iterator[str]:
    refs = dict(git.all_refs())
    if f"refs/heads/{MAIN}" not in refs:
        yield f"the branch {MAIN} is missing or unreadable"
    for path in sorted((git.folder / "refs").rglob("*")):
        name = path.relative_to(git.folder).as_posix()
        if path.is_file() and path.suffix != ".lock" and name not in refs:
            yield f"the ref {name} is unreadable"


def _without_commits(git: GitRepo, discussions: Discussions, repo: Repo) -> Iterator[str]:
    for discussion in discussions.all(repo):
        if discussion.is_pull and git.ref(discussion.ref) is None:
            yield f"the commits of pull request {discussion.num} ({discussion.ref}) are missing"
