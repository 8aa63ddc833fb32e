"""What stands around every call of the Hub's client: waits end, errors are perdure's, and no token is told.

Everything the client may raise is translated here, once. Every wait is bounded: the client alone would wait for ever
for a hub that accepts a connection and then says nothing.
"""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perdure._optional import require
from perdure.errors import Conflict, HubError, PerdureError, Rejected, Unauthorized, Unavailable

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

PURPOSE = "Publishing to a Hub"
_TOKEN = re.compile(r"[!-~]+")  # printable ASCII without spaces: what a header can carry as it is
_SHORTEST_TOKEN = 8  # anything shorter is no secret, and would be cut out of ordinary words
_CONNECT_SECONDS = 10.0
_LONGEST_RETRY_AFTER = 3600.0
_HOOKS = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Seconds to wait for one answer, and seconds after which nothing more is asked, repetitions included."""

    answer: float = 20
    total: float = 30


class Border:
    """The border to one Hub, crossed with one token, or with none ("")."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._token = token

    @contextmanager
    def crossing(self, doing: str, *, bounds: Bounds | None = None) -> Iterator[None]:
        """Bound the waits of the client's calls inside, and translate what they raise."""
        try:
            with _bounded(bounds or Bounds()):
                yield
        except PerdureError:
            raise
        except Exception as error:  # the client raises nearly everything; what is not the Hub's goes on as it is
            translated = self._translated(error, doing)
            if self._is_token_in(error):  # then the chain, which tracebacks and logs show, must not hold it either
                words = self._without_token(str(error))
                raise translated or Rejected(f"{self._endpoint} could not {doing}: {words}") from None
            if translated is None:
                raise
            raise translated from error

    def _translated(self, error: BaseException, doing: str) -> HubError | None:
        errors = require("huggingface_hub.errors", PURPOSE)
        words = self._without_token(str(error).strip()) or type(error).__name__
        if isinstance(error, errors.HfHubHTTPError):
            return self._from_answer(error, doing)
        if isinstance(error, errors.OfflineModeIsEnabled):
            return Unavailable(
                f"HF_HUB_OFFLINE is set, so {self._endpoint} was not asked to {doing}.",
                hint="To allow it: unset HF_HUB_OFFLINE",
            )
        if isinstance(error, RuntimeError) and error.__cause__ is not None:  # an upload thread's wrapper
            return self._translated(error.__cause__, doing)
        if isinstance(error, (errors.HTTPError, ConnectionError, TimeoutError)):
            if "CERTIFICATE_VERIFY_FAILED" in words:
                return Unavailable(
                    f"The certificate of {self._endpoint} is not trusted here, so it was not asked to {doing}.",
                    hint="If it is of an authority of your own: export SSL_CERT_FILE=ca.pem",
                )
            return Unavailable(f"{self._endpoint} is out of reach: it could not {doing} ({words}).")
        if isinstance(error, ValueError):
            return Rejected(f"{self._endpoint} could not {doing}: {words}")
        return None

    def _from_answer(self, error: HfHubHTTPError, doing: str) -> HubError:
        status = error.response.status_code
        words = self._without_token((error.server_message or str(error)).strip())
        said = f"{self._endpoint} answered {status}: {words}"
        if status == 401 and not self._token:
            return Unauthorized(
                f"{self._endpoint} wants a token to {doing}. ({status}: {words})",
                hint=how_to_authenticate(self._endpoint),
            )
        if status == 401:
            return Unauthorized(
                f"{self._endpoint} does not accept this token: it would not {doing}. ({status}: {words})",
                hint=how_to_authenticate(self._endpoint),
            )
        if status == 403:
            return Unauthorized(
                f"This token may not {doing}. {said}",
                hint=f"Use a token with that permission. {how_to_authenticate(self._endpoint)}",
            )
        if status in (409, 412):
            return Conflict(f"Could not {doing}: somebody else was first. {said}")
        if status in (408, 425, 429) or status >= 500:
            return Unavailable(f"Could not {doing} now. {said}", retry_after=_retry_after(error.response.headers))
        return Rejected(f"Could not {doing}. {said}")

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "***") if len(self._token) >= _SHORTEST_TOKEN else text

    def _is_token_in(self, error: BaseException) -> bool:
        shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return self._without_token(shown) != shown


def token_for(endpoint: str, token: str | None) -> str:
    """The token given, or that of `HF_TOKEN`, or what `hf auth login` stored; "" where there is none.

    White space around it, as from a file that ends with a line break, is no part of it.

    Raises:
        Unauthorized: No token can look like this.
    """
    found = (token or require("huggingface_hub", PURPOSE).get_token() or "").strip()
    if found and not _TOKEN.fullmatch(found):  # the client would repeat it, whole, in its complaint about the header
        raise Unauthorized(
            f"The token for {endpoint} has a space, line break or other character that no token has. Nothing was sent.",
            hint=how_to_authenticate(endpoint),
        )
    return str(found)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds for which a Hub asks to be left alone, by either of the two headers that say so.

    >>> _retry_after({"retry-after": "30"}), _retry_after({"ratelimit": '"api";r=0;t=55'}), _retry_after({})
    (30.0, 55.0, 0.0)
    """
    said = re.fullmatch(r"\s*(\d{1,9})\s*", headers.get("retry-after", ""))
    spent = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})", headers.get("ratelimit", ""))
    return max((min(float(found[1]), _LONGEST_RETRY_AFTER) for found in (said, spent) if found), default=0.0)


def how_to_authenticate(endpoint: str) -> str:
    """The hint for who has no token, or the wrong one."""
    return f"Give a token of {endpoint} with --token or HF_TOKEN, or log in once with: hf auth login"


@contextmanager
def _bounded(bounds: Bounds) -> Iterator[None]:
    """Let no request of the client's shared session wait for ever; a timeout that was set already is kept.

    A hook, because several of the client's calls ask for no timeout in so many words, over the session's own, and
    because the client repeats a failed request up to five times.
    """
    from huggingface_hub import get_session

    until = time.monotonic() + bounds.total
    limits = {"connect": _CONNECT_SECONDS, "read": bounds.answer, "write": bounds.answer, "pool": _CONNECT_SECONDS}

    def bound(request: Any) -> None:
        if time.monotonic() > until:
            raise TimeoutError("no answer in time")
        asked = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {**limits, **{kind: at for kind, at in asked.items() if at is not None}}

    session = get_session()
    _set_hooks(session, lambda hooks: [*hooks, bound])
    try:
        yield
    finally:
        _set_hooks(session, lambda hooks: [hook for hook in hooks if hook is not bound])


def _set_hooks(session: Any, change: Callable[[list[Any]], list[Any]]) -> None:
    """Give a session another list of hooks: one that a request of another thread goes through stays as it is."""
    with _HOOKS:
        session.event_hooks = {**session.event_hooks, "request": change(session.event_hooks["request"])}
