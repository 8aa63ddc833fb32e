"""What stands around every call of the Hub's client: waits end, errors are perdure's, and no token is told.

Everything the client may raise is translated here, once, and what a Hub says in it is made fit for a terminal. The
token goes to its own Hub only, wherever that one sends the client.
"""

from __future__ import annotations

import base64
import json
import re
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from perdure._optional import require
from perdure.errors import Conflict, HubError, PerdureError, Rejected, Unauthorized, Unavailable
from perdure.publishing.bounds import Bounds, bounded

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

PURPOSE = "Publishing to a Hub"
_TOKEN = re.compile(r"[!-~]+")  # printable ASCII without spaces: what a header can carry as it is
_SHORTEST_TOKEN = 8  # anything shorter is no secret, and would be cut out of ordinary words
_LONGEST_RETRY_AFTER = 3600.0
_MOST_WORDS = 1000  # characters of what a Hub says
_PAGE = "that is a page of something that stands before the Hub, or of no Hub"


class Border:
    """The border to one Hub, crossed with one token, or with none ("")."""

    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint = endpoint
        self._token = token
        self._secrets = _spellings(token) if len(token) >= _SHORTEST_TOKEN else ()

    @contextmanager
    def crossing(self, doing: str, *, bounds: Bounds | None = None) -> Iterator[None]:
        """Bound the waits of the client's calls inside, and translate what they raise."""
        try:
            with bounded(bounds or Bounds(), self._keep_token_home):
                yield
        except PerdureError:
            raise
        except Exception as error:  # the client raises nearly everything; what is not the Hub's goes on as it is
            translated = self._translated(error, doing)
            if self._is_token_in(error):  # then the chain, which tracebacks and logs show, must not hold it either
                words = self.said(str(error))
                raise translated or Rejected(f"{self._endpoint} could not {doing}: {words}") from None
            if translated is None:
                raise
            raise translated from error

    def _translated(self, error: BaseException, doing: str) -> HubError | None:
        errors = require("huggingface_hub.errors", PURPOSE)
        words = self.said(str(error)) or type(error).__name__
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
        if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
            return Unavailable(f"{self._endpoint} could not {doing}: {_PAGE}.")
        if isinstance(error, (LookupError, TypeError, AttributeError, StopIteration)):
            return Rejected(
                f"{self._endpoint} could not {doing}: what it answered is not laid out as a Hub's answer is.",
                hint="Is that the address of a Hub?",
            )
        if isinstance(error, ValueError):
            return Rejected(f"{self._endpoint} could not {doing}: {words}")
        return None

    def _from_answer(self, error: HfHubHTTPError, doing: str) -> HubError:
        status = error.response.status_code
        words = self.said(error.server_message or str(error))
        said = f"{self._endpoint} answered {status}: {words}"
        if is_page(error.response):
            return Unavailable(f"Could not {doing} now. {self._endpoint} answered {status}: {_PAGE}.")
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

    def said(self, text: str) -> str:
        """What a Hub said, on one line, without the token and without characters that a terminal acts upon."""
        plain = "".join(character if character.isprintable() else " " for character in text)
        return self._without_token(" ".join(plain.split()))[:_MOST_WORDS]

    def _without_token(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _is_token_in(self, error: BaseException) -> bool:
        shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return self._without_token(shown) != shown

    def _keep_token_home(self, request: Any) -> None:
        """Hold back the token from an address to which a Hub sends the client on: the client itself does not."""
        sent = request.headers.get("Authorization", "")
        if sent != self._without_token(sent) and not _is_at(str(request.url), self._endpoint):
            del request.headers["Authorization"]


def is_page(response: Any) -> bool:
    """Whether an answer that says `no` is not of a Hub, but a page of something that stands before it."""
    headers = response.headers
    of_a_hub = "x-error-code" in headers or not headers.get("content-type", "").startswith("text/html")
    return response.status_code in (403, 404) and not of_a_hub


def _is_at(url: str, endpoint: str) -> bool:
    """Whether an address is of a Hub, which may have sent the client on from `http` to `https`.

    >>> _is_at("https://hub/api/models/a", "http://hub"), _is_at("https://hub:1/api", "https://hub:2")
    (True, False)
    """
    one, other = urlsplit(url), urlsplit(endpoint)
    ports = [at.port or {"http": 80, "https": 443}.get(at.scheme) for at in (one, other)]
    same = (one.scheme, ports[0]) == (other.scheme, ports[1]) or (one.scheme, *ports) == ("https", 443, 80)
    return same and one.hostname == other.hostname


def _spellings(token: str) -> tuple[str, ...]:
    """A token as it is, and what every base64 has in it of which the token is a part, as `Authorization: Basic` is.

    >>> _spellings("hf_secret")[1] in base64.b64encode(b"hf_secret:x").decode()
    True
    """
    found = [token]
    for ahead, skip in ((0, 0), (1, 2), (2, 3)):  # bytes before it in its group of three; characters that these touch
        whole = (ahead + len(token)) * 8 // 6  # what comes after it touches the rest
        found.append(base64.b64encode(b"\0" * ahead + token.encode())[skip:whole].decode())
    return tuple(found)


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
    >>> _retry_after({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"})
    3600.0
    """
    said = headers.get("retry-after", "").strip()
    spent = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})", headers.get("ratelimit", ""))
    seconds = [float(spent[1])] if spent else []
    if re.fullmatch(r"\d{1,9}", said):
        seconds.append(float(said))
    elif said:
        with suppress(ValueError):  # it is neither
            seconds.append(parsedate_to_datetime(said).timestamp() - time.time())
    return min(max([0.0, *seconds]), _LONGEST_RETRY_AFTER)


def how_to_authenticate(endpoint: str) -> str:
    """The hint for who has no token, or the wrong one."""
    return f"Give a token of {endpoint} with --token or HF_TOKEN, or log in once with: hf auth login"
