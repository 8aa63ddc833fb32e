"""The hub's parts held together, and a request as handlers see it: who calls, and what they mean and may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from starlette.requests import Request

from perdure.hub import auth
from perdure.hub.blobs import ContentStore, Staged, Staging, make_private_folder
from perdure.hub.briefs import Briefs
from perdure.hub.db import DATABASE, Database, Repo
from perdure.hub.discussions import Discussions
from perdure.hub.git import GitRepo
from perdure.hub.git_process import Commands
from perdure.hub.http import ApiError, bad_request, gated, parse_json, repo_not_found
from perdure.hub.locks import Locks
from perdure.hub.paths import renamed
from perdure.hub.ratelimit import RateLimiter
from perdure.hub.repos import GitRepos
from perdure.hub.session import Sessions
from perdure.hub.xet.dedup import Deduplication

ANSWER_HEADERS = "perdure.headers"
"""Where a request's scope holds the headers that its answer will have, whatever becomes of it."""

PREFIX = {"model": "", "dataset": "datasets/"}
"""Kind of repository → what comes before its id in the addresses people see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """An opened store. Only one process may have it open; `HubServer` sees to that."""

    db: Database
    git: GitRepos
    blobs: ContentStore
    xorbs: ContentStore
    staging: Staging
    discussions: Discussions
    locks: Locks
    dedup: Deduplication
    signer: auth.Signer
    limiter: RateLimiter | None
    sessions: Sessions
    briefs: Briefs

    @classmethod
    def open(cls, folder: Path, *, rate_limit: int | None = None) -> Hub:
        """Open the store in an existing folder; what it lacks is made, and uploads that never finished are removed.

        A caller may make `rate_limit` requests in five minutes, or any number of them.
        """
        db = Database(folder / DATABASE)
        # Clients remember which xorbs they sent to which CAS address and never send them twice. When the xorbs
        # are gone the address has to change, or the next upload of the same bytes would be refused.
        if not (folder / "xorbs").is_dir():
            db.renew_epoch()
        for name in ("blobs", "repos", "xorbs"):
            make_private_folder(folder / name)
        staging = Staging(folder / "staging")
        return cls(
            db=db,
            git=GitRepos(folder / "repos", staging.folder),
            blobs=ContentStore(folder / "blobs"),
            xorbs=ContentStore(folder / "xorbs"),
            staging=staging,
            discussions=Discussions(db),
            locks=Locks(db),
            dedup=Deduplication(db),
            signer=auth.Signer(db.secret()),
            limiter=RateLimiter(rate_limit) if rate_limit else None,
            sessions=Sessions(),
            briefs=Briefs(),
        )

    def close(self) -> None:
        """Close the database. No request may be under way."""
        self.db.close()

    def holds(self, repo: Repo, oid: str) -> bool:
        """Whether `repo` was given the bytes of a file that is stored."""
        return self.blobs.size(oid) is not None and self.db.holds(repo, oid)

    def holds_for(self, caller: auth.Caller, repo: Repo, oid: str) -> bool:
        """Whether `repo` may refer to a stored file: it was given its bytes, or `caller` may download it elsewhere.

        Knowing a sha256 is not having the file; without this rule a digest would open other people's files.
        """
        if not self.blobs.keep(oid):
            return False
        if self.db.holds(repo, oid):
            return True
        if any(auth.may_read(caller, holder) and auth.may_download(caller, holder) for holder in self.db.holders(oid)):
            self.db.hold(repo, oid)
            return True
        return False


class Access(Enum):
    """What a route asks of its caller, checked before any of the body is read."""

    OPEN = "open"  # nobody is asked who they are
    LINK = "link"  # the address is signed; the route's `before` reads what that permits
    GRANT = "grant"  # a token of ours that xet-write-token gave; the route's `before` reads what it permits
    ANYONE = "anyone"
    USER = "user"
    READ = "read"
    DOWNLOAD = "download"
    PROPOSE = "propose"  # whoever may download, with a token that may write: what pull requests and comments ask
    WRITE = "write"
    PAGE = "page"  # as ANYONE, for people
    VIEW = "view"  # as READ, for people


_SIGNED_IN = {Access.PAGE, Access.VIEW, Access.DOWNLOAD}
"""Where a browser's cookie says who calls."""


@dataclass(slots=True)
class Call:
    """One request, as handlers see it.

    Attributes:
        most: Bytes that its body may have, where a route's `before` knows that they are fewer than the route's limit.
    """

    hub: Hub
    request: Request
    caller: auth.Caller | None = None
    admitted: Repo | None = None
    body: bytes = b""
    upload: Staged | None = None
    most: int | None = None
    commands: Commands = field(default_factory=Commands)

    @property
    def who(self) -> str:
        """A name for the caller, by which their requests are counted: the user's, or the address they come from."""
        client = self.request.client
        return f"user {self.caller.user.id}" if self.caller else f"address {client.host if client else ''}"

    @property
    def user(self) -> auth.Caller:
        """The caller, on routes that admit nobody without a token."""
        assert self.caller is not None
        return self.caller

    @property
    def repo(self) -> Repo:
        """The repository the route, link or token names."""
        assert self.admitted is not None
        return self.admitted

    @property
    def received(self) -> Staged:
        """The request's body, in a staged file; only in handlers of an `upload_route`."""
        assert self.upload is not None
        return self.upload

    @property
    def base(self) -> str:
        """The address under which the client knows this hub, without a slash at the end."""
        return str(self.request.base_url).rstrip("/")

    def param(self, name: str) -> str:
        """A part of the path, by its name in the route."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the query string."""
        return self.request.query_params.get(name, default)

    def flag(self, name: str) -> bool:
        """Whether a parameter of the query string is `1` or `true`."""
        return self.query(name).lower() in {"1", "true"}

    def count(self, name: str, default: int, most: int) -> int:
        """A parameter that is a number: `default` when absent, never above `most`; 400 when it is something else."""
        text = self.query(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise bad_request(f"{name!r} must be a number.")
        return min(int(text), most)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; 400 when it is something else."""
        return parse_json(self.body)

    @contextmanager
    def git(self) -> Iterator[GitRepo]:
        """The repository's git side, open for the length of the block."""
        with self.hub.git.open(self.repo.id) as git:
            yield git

    def repo_url(self, repo: Repo | None = None) -> str:
        """The address of a repository's page; of this call's own unless told."""
        repo = repo or self.repo
        return f"{self.base}/{PREFIX[repo.kind]}{repo.full_name}"

    def admit(self, access: Access) -> None:
        """Find out who calls and which repository they mean, and refuse what is not theirs to do."""
        if access in {Access.OPEN, Access.LINK, Access.GRANT}:
            return
        try:
            self.caller = auth.authenticate(self.hub.db, self.request.headers.get("authorization"))
            if self.caller is None and access in _SIGNED_IN and self._is_for_people():
                self.caller = self.hub.sessions.caller(self.hub.db, self.request.cookies)
        finally:  # a wrong token counts, too: for the address it comes from
            self._count()
        if access not in {Access.ANYONE, Access.PAGE, Access.USER}:
            params = self.request.path_params
            self.admitted = self.find_repo(params.get("kind", "model"), params["namespace"], params["name"])
        self.require(access)

    def signed(self, purpose: str, seconds: float, **claims: str | int) -> str:
        """A token of ours for this repository and caller, of use for as long as they may do what it says."""
        token = self.caller.token if self.caller else ""
        return self.hub.signer.sign(purpose, seconds, repo=self.repo.id, token=token, **claims)

    def admit_signed(self, signed: str, purpose: str, access: Access) -> dict[str, Any]:
        """Admit whoever was given a token of ours, as far as they may do today what they might when it was made.

        Returns:
            What the token says.
        """
        claims = self.hub.signer.open(signed, purpose)
        token = claims.get("token")
        self.caller = auth.find_caller_by_id(self.hub.db, token) if token else None
        if token is None or (token and self.caller is None):
            raise ApiError(403, "The token that this was made for is no longer valid; ask for a new link.")
        self.admitted = self.hub.db.repo_by_id(claims["repo"])
        if self.admitted is None or not auth.may_read(self.caller, self.admitted):
            raise repo_not_found()
        self.require(access)
        return claims

    def _is_for_people(self) -> bool:
        return self.request.method in {"GET", "HEAD"} and not self.request.url.path.startswith("/api/")

    def require(self, access: Access) -> None:
        """Refuse what the caller, who was admitted, may not do."""
        if access in {Access.DOWNLOAD, Access.PROPOSE} and not auth.may_download(self.caller, self.repo):
            raise gated(self.repo.full_name, anonymous=self.caller is None)
        if access in {Access.ANYONE, Access.PAGE, Access.READ, Access.VIEW, Access.DOWNLOAD}:
            return
        if self.caller is None:
            raise ApiError(401, "This needs a token: log in first.", headers={"WWW-Authenticate": "Bearer"})
        if access is Access.PROPOSE and self.caller.role == "read":
            raise forbidden(self.caller, self.repo.full_name)
        if access is Access.WRITE and not auth.may_write(self.caller, self.repo):
            raise forbidden(self.caller, self.repo.full_name)

    def _count(self) -> None:
        if self.hub.limiter is None:
            return
        allowance = self.hub.limiter.count(self.who, self.request.url.path)
        self.request.scope[ANSWER_HEADERS].update(allowance.headers)
        allowance.require()

    def repos(self, kind: str = "", namespace: str = "") -> list[Repo]:
        """The repositories the caller may read, newest first; of a kind and in a namespace, where they are named."""
        repos, owner = self.hub.db.repos(kind), namespace.lower()
        return [r for r in repos if owner in {"", r.namespace.lower()} and auth.may_read(self.caller, r)]

    def find_repo(self, kind: str, namespace: str, name: str) -> Repo:
        """A repository the caller may read.

        Raises:
            ApiError: RepoNotFound (401 without a token, 404 with one, the same whether it is absent or
                private), or 307 to its new name where the address has the old one.
        """
        repo = self.hub.db.repo(kind, namespace, name)
        if repo is not None and auth.may_read(self.caller, repo):
            return repo
        moved = self.hub.db.moved(kind, namespace, name) if repo is None else None
        if moved is not None and auth.may_read(self.caller, moved):
            path = renamed(self.request.url.path, (namespace, name), (moved.namespace, moved.name))
            if path is not None:
                query = f"?{self.request.url.query}" if self.request.url.query else ""
                raise ApiError(307, f"Moved to {moved.full_name}.", headers={"Location": path + query})
        raise repo_not_found(anonymous=self.caller is None)


def forbidden(caller: auth.Caller, what: str) -> ApiError:
    """The answer to a caller who may not write to `what`, or whose token may only read."""
    if caller.role == "read":
        return ApiError(403, "This token may only read; use one that may write.")
    return ApiError(403, f"{caller.name} may not write to {what}.")
