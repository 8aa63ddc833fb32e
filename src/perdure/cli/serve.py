"""`perdure serve`: the embedded hub in the foreground."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import click

from perdure.cli.hub_store import named

_EPILOG = """
\b
Examples:
  perdure serve                               a hub in ./perdure-hub, for this machine only
  perdure serve --dir /srv/hub --port 8000    the same folder holds everything; back it up as one
  perdure serve --host 0.0.0.0 --port 443 --tls-cert fullchain.pem --tls-key privkey.pem
  PERDURE_HUB_TOKEN=... perdure serve --user me --json

\b
More users, tokens and organisations; checking and cleaning up the folder: see perdure hub --help.

\b
Then, in another terminal (any Hugging Face client works):
  export HF_ENDPOINT=http://127.0.0.1:7999 HF_TOKEN=...
  perdure push out me/model
"""

_FILE = click.Path(path_type=Path, readable=False)  # what cannot be read is told with its owner, and not by click


@click.command(epilog=_EPILOG)
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("perdure-hub"),
    show_default=True,
    help="Where the hub keeps everything; made when it is not there.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7999,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
@click.option("--user", help="The administrator's name; made when there is no such user.  [default: admin]")
@click.option(
    "--token",
    envvar="PERDURE_HUB_TOKEN",
    show_envvar=True,
    help="A token for that user, added to those it has. On the command line other users of this machine can "
    "see it (ps); the environment variable keeps it from them.",
)
@click.option("--tls-cert", type=_FILE, help="Serve https with this certificate (PEM, with its chain).")
@click.option("--tls-key", type=_FILE, help="The certificate's private key (PEM).")
@click.option(
    "--rate-limit",
    type=click.IntRange(1),
    metavar="N",
    help="Let a caller make N requests of each kind in five minutes: api (calls), resolvers (downloads), pages (for "
    "people).  [default: any number]",
)
@click.option(
    "--behind-proxy",
    is_flag=True,
    help="Believe a proxy on this machine who called, and whether by https (X-Forwarded-For, X-Forwarded-Proto).",
)
@click.option("--json", "as_json", is_flag=True, help="Say that it is ready as one line of JSON.")
@click.option("-v", "--verbose", is_flag=True, help="A line for every request, on standard error.")
def command(  # noqa: PLR0917 (click passes them by name)
    folder: Path,
    host: str,
    port: int,
    user: str | None,
    token: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    rate_limit: int | None,
    behind_proxy: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Run the embedded hub until SIGTERM or Ctrl-C.

    It speaks the Hugging Face Hub's protocol: `huggingface_hub`, `transformers` and every tool that honours
    HF_ENDPOINT can push to it and load from it. It is ready when it prints its URL.

    The first start makes an administrator and shows their token once; only its digest is stored.
    """
    os.environ.pop("PERDURE_HUB_TOKEN", None)  # not for anything this process may start
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together: name both, or neither.")
    from perdure.hub.server import HubServer
    from perdure.hub.tls import Tls

    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
    told = threading.Event()
    previous = _stop_on_signals(told)
    tls = Tls(cert=tls_cert, key=tls_key) if tls_cert and tls_key else None
    server = HubServer(
        folder, user=user, token=token, host=host, port=port, tls=tls, rate_limit=rate_limit, behind_proxy=behind_proxy
    )
    try:
        with named(folder):
            server.start()
        _announce(server.url, server.user, server.token, folder, shown=token is None, as_json=as_json)
        if host in {"0.0.0.0", "::"}:
            own = server.url.replace(
                f"//{urlsplit(server.url).netloc.rpartition(':')[0]}:", f"//{socket.gethostname()}:"
            )
            click.echo(f"Other machines reach it by this machine's name or address, such as {own}", err=True)
        if not server.loopback and tls is None:
            click.echo(
                f"Warning: {host} can be reached from other machines, and without TLS anybody on the way can read "
                "tokens and files. Use --tls-cert and --tls-key, put a TLS proxy in front, or listen on 127.0.0.1.",
                err=True,
            )
        told.wait()
        click.echo("Stopping: no new requests; those under way may finish.", err=True)
    finally:
        finished = server.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if not finished:
        # A worker thread cannot be ended from outside. Nothing it does was acknowledged, so leaving is safe.
        click.echo("Stopped with requests unfinished; none of them had been acknowledged.", err=True)
        sys.stdout.flush()
        os._exit(0)


def _announce(url: str, user: str, token: str | None, folder: Path, *, shown: bool, as_json: bool) -> None:
    made = token if shown else None  # a token that was given is not repeated: output ends up in logs
    if as_json:
        click.echo(json.dumps({"url": url, "user": user, "token": made, "dir": str(folder.absolute())}))
    else:
        if made:
            click.echo(f"New administrator {user!r} with the token (shown this once):\n  {made}", err=True)
        click.echo(f"The hub keeps its files in {folder.absolute()}", err=True)
        click.echo(f"perdure hub ready at {url}")
    sys.stdout.flush()


def _stop_on_signals(told: threading.Event) -> dict[int, Any]:
    def stop(number: int, frame: FrameType | None) -> None:
        if told.is_set():  # asked twice: at once
            os._exit(128 + number)
        told.set()

    return {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
