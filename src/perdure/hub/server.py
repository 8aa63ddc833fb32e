"""Running the hub: one socket, one store, in a thread of this process."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import uvicorn

from perdure.errors import InvalidInput, Unavailable
from perdure.hub.accounts import Accounts, check_account_name, check_token, new_token
from perdure.hub.app import create_app
from perdure.hub.blobs import make_private_folder
from perdure.hub.connections import Connection
from perdure.hub.core import Hub
from perdure.hub.db import DATABASE, Database
from perdure.hub.storelock import take_store
from perdure.hub.tls import Tls
from perdure.io.locks import release
from perdure.io.workers import Done

log = logging.getLogger("perdure.hub")

_START_SECONDS: Final = 30.0
_FINISH_SECONDS: Final = 10
"""How long requests under way may go on once the server was told to stop."""

_BACKLOG: Final = 128
"""Connections taken at one go: each is a file of this process before any can be refused."""

_LISTEN_HINTS: Final = {
    errno.EADDRINUSE: "Choose another port with --port, or 0 for any that is free.",
    errno.EACCES: "Ports below 1024 are for the system: choose another with --port, or permit it "
    "(AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit).",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The administrator a server was started with; `token` is None when an earlier start made it and only its
    digest is stored."""

    user: str
    token: str | None


class HubServer:
    """The embedded hub on a port of its own, as a context manager.

    Args:
        dir: The store: a folder that a hub made, or an empty one; made, for its owner's eyes only, when it is
            not there. One server at a time may have it.
        user: The administrator's name; made when there is no such user. `admin` in a new store unless told.
        token: A token for that user, added to those it has. A new user without one is given one.
        host: Address to listen on.
        port: Port to listen on; 0 lets the system choose.
        tls: Serve https with this certificate; http without.
        rate_limit: How many requests of each kind a caller may make in five minutes; any number unless told.
        behind_proxy: Believe a proxy on this machine who called and whether by https (`X-Forwarded-For`, `-Proto`).

    Attributes:
        url: What clients take as `HF_ENDPOINT`.
        user: The administrator's name.
        token: Their token, or None when it was made by an earlier start (only its digest is stored).

    Raises:
        InvalidInput: The name or token cannot be used, the user is no administrator, the store is in use or is some
            other folder with files in it, the address cannot be listened on, or the certificate cannot be used.

    Example:
        ```python
        with HubServer("hub", user="me", token="correct-horse-battery") as hub:
            HfApi(endpoint=hub.url, token=hub.token).create_repo("me/model", private=True)
        ```
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],
        *,
        user: str | None = None,
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        rate_limit: int | None = None,
        behind_proxy: bool = False,
    ) -> None:
        self._folder = Path(dir).absolute()
        self._host = host
        self._port = port
        self._tls = tls
        self._rate_limit = rate_limit
        self._behind_proxy = behind_proxy
        self._wanted = (user, token)
        self._server: uvicorn.Server | None = None
        self._finished = Done()
        self._hub: Hub | None = None
        self._lock: int | None = None
        self.account: Account | None = None
        self.url = ""

    @property
    def user(self) -> str:
        """The administrator's name, once started."""
        assert self.account is not None, "not started"
        return self.account.user

    @property
    def token(self) -> str | None:
        """Their token, once started; None when an earlier start made it."""
        assert self.account is not None, "not started"
        return self.account.token

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self._host).is_loopback
        except ValueError:
            return self._host == "localhost"

    def start(self) -> HubServer:
        """Open the store and answer requests. Returns once the socket does."""
        made = not self._folder.exists()
        try:
            self._open()
        except BaseException:
            self.stop()
            if made:
                with suppress(OSError):  # somebody's by now, when it is not empty
                    self._folder.rmdir()
            raise
        return self

    def _open(self) -> None:
        _check_account(*self._wanted)
        if self._tls is not None:
            self._tls.check()
        try:
            make_private_folder(self._folder)
            self._lock = _lock(self._folder)
            _require_store(self._folder)
            # the socket first: a token made for a server that then cannot listen would never be shown
            listener = _listen(self._host, self._port)
            with listener:
                self._hub = Hub.open(self._folder, rate_limit=self._rate_limit)
                self.account = _account(self._hub.db, *self._wanted)
                self._serve(listener)
        except (OSError, sqlite3.Error) as error:
            raise InvalidInput(f"The hub cannot keep its files in {self._folder}: {error}.") from error

    def _serve(self, bound: socket.socket) -> None:
        assert self._hub is not None
        name = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http{'s' if self._tls else ''}://{name}:{bound.getsockname()[1]}"
        listener = bound.dup()
        config = uvicorn.Config(
            create_app(self._hub),
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,  # its lines hold whole addresses, and signatures with them; the app logs its own
            server_header=False,
            proxy_headers=self._behind_proxy,
            ssl_certfile=self._tls.cert if self._tls else None,
            ssl_keyfile=self._tls.key if self._tls else None,
            timeout_graceful_shutdown=_FINISH_SECONDS,
            backlog=_BACKLOG,
        )
        server, finished = uvicorn.Server(config), Done()

        def serve() -> None:
            try:
                with listener:
                    server.run(sockets=[listener])
            finally:
                finished.set()

        threading.Thread(target=serve, name="perdure-hub", daemon=True).start()
        self._server, self._finished = server, finished
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if finished.wait(0) or time.monotonic() > deadline:
                raise Unavailable("The hub did not start; its log says why.")
            time.sleep(0.005)

    def stop(self) -> bool:
        """Take no more requests, let those under way finish for some seconds, and close the store.

        Returns:
            Whether everything had finished in time. What had not was acknowledged to nobody.
        """
        finished = True
        if self._server is not None:
            self._server.should_exit = True
            finished = self._finished.wait(_FINISH_SECONDS + 5)
        if finished and self._hub is not None:
            self._hub.close()
            self._hub = None
        if finished and self._lock is not None:
            release(self._lock)
            self._lock = None
        return finished

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _lock(folder: Path) -> int:
    """Hold the store for this server alone."""
    held = take_store(folder)
    if held is None:
        raise InvalidInput(
            f"Another hub is running on {folder}; this one was not started.",
            hint="Stop the other one, or give this one a folder of its own with --dir.",
        )
    return held


def _require_store(folder: Path) -> None:
    """Refuse to mix the hub's files with others; a file system of its own has a `lost+found` from the start."""
    names = {path.name for path in folder.iterdir()} - {"lost+found"}
    if names and DATABASE not in names:
        raise InvalidInput(
            f"{folder} has files in it and is no hub's folder; nothing was written there.",
            hint="Give the hub an empty or a new folder with --dir.",
        )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise InvalidInput(
            f"The hub cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}.",
            hint=_LISTEN_HINTS.get(
                getattr(error, "errno", errno.EADDRINUSE),
                "Name an address of this machine with --host: 127.0.0.1 for itself alone, 0.0.0.0 for others, too.",
            ),
        ) from error
    return listener


def _check_account(user: str | None, token: str | None) -> None:
    if user is not None:
        check_account_name(user)
    if token is not None:
        check_token(token)


def _account(db: Database, name: str | None, token: str | None) -> Account:
    """Find or make the administrator, and give them the token that was asked for."""
    accounts = Accounts(db)
    existing = accounts.user(name) if name else accounts.first_admin()
    if existing is not None and not existing.admin:
        raise InvalidInput(
            f"{existing.name!r} is a user of this hub, and no administrator; it was not started, and nothing changed.",
            hint="Leave the name out to start it as its administrator. To make them one, too: "
            f"perdure hub user set {existing.name} --admin --dir DIR",
        )
    if existing is not None and token is None:
        return Account(user=existing.name, token=None)
    token = token or new_token()
    if existing is None:
        existing, _ = accounts.add_user_with_token(name or "admin", token, admin=True, label="perdure serve")
    else:
        accounts.add_token(existing, token, role="admin", label="perdure serve")
    return Account(user=existing.name, token=token)
