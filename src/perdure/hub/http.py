"""What handlers raise and answer with: the Hub's error headers, JSON, and checked fields of a JSON body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from starlette.responses import JSONResponse, PlainTextResponse, Response

from perdure.hub import limits

T = TypeVar("T")


class ApiError(Exception):
    """An answer that is not success.

    Args:
        status: HTTP status.
        message: For the person at the client; it also goes into `X-Error-Message`.
        code: `X-Error-Code`, by which clients choose the exception to raise: `RepoNotFound`,
            `RevisionNotFound`, `EntryNotFound`.
        headers: Further headers.
        body: Further members of the JSON body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})
        self.body = dict(body or {})

    def response(self, *, plain: bool = False) -> Response:
        """The answer as it goes out: the message in JSON, or as plain text, and with the code in the headers."""
        headers = {"X-Error-Message": header_text(self.message), **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        if plain:
            return PlainTextResponse(f"{self.message}\n", status_code=self.status, headers=headers)
        return JSONResponse({"error": self.message, **self.body}, status_code=self.status, headers=headers)


def bad_request(message: str) -> ApiError:
    """A 400: the client sent something that cannot be meant."""
    return ApiError(400, message)


def repo_not_found(*, anonymous: bool = False) -> ApiError:
    """The same answer for a repository that is absent and for one the caller may not see."""
    return ApiError(401 if anonymous else 404, "Repository not found", code="RepoNotFound")


def gated(full_name: str, *, anonymous: bool) -> ApiError:
    """The answer to somebody who may see a repository, but not have its files."""
    if anonymous:
        return ApiError(401, f"{full_name} is gated: log in to have its files.", code="GatedRepo")
    return ApiError(403, f"The files of {full_name} are for its owner's people only.", code="GatedRepo")


def branch_moved() -> ApiError:
    """The answer to a write that was based on a commit which is no longer the branch's newest."""
    return ApiError(412, "A commit has happened since. Please refresh and try again.")


def too_large(what: str, limit: int) -> ApiError:
    """A 413: `what` has more than `limit` bytes."""
    return ApiError(413, f"{what} is larger than this hub accepts ({limit} bytes).")


def busy() -> ApiError:
    """A 503: there is no room for this request now, and clients that wait a little find some."""
    message = "The hub has too much to do just now; ask again in a few seconds."
    return ApiError(503, message, headers={"Retry-After": str(limits.BUSY_SECONDS)})


def header_text(text: str) -> str:
    """`text` as a header can carry it: one line of printable ASCII, at most 500 characters, no space at its ends."""
    return "".join(c if " " <= c <= "~" else "?" for c in text.replace("\n", " "))[:500].strip()


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; an empty body is an empty object.

    Raises:
        ApiError: 400, when it is not a JSON object.
    """
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_request("The request body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise bad_request("The request body must be a JSON object.")
    return value


@overload
def field(body: Mapping[str, Any], name: str, kind: type[T]) -> T: ...
@overload
def field(body: Mapping[str, Any], name: str, kind: type[T], default: None) -> T | None: ...
@overload
def field(body: Mapping[str, Any], name: str, kind: type[T], default: T) -> T: ...
def field(body: Mapping[str, Any], name: str, kind: type[T], default: object = ...) -> T | object:
    """The member `name` of a JSON object, checked to be of type `kind`; null counts as absent.

    Raises:
        ApiError: 400, when it has another type, or is absent and there is no default.
    """
    value = body.get(name)
    if value is None:
        if default is ...:
            raise bad_request(f"{name!r} is missing.")
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise bad_request(f"{name!r} must be of type {kind.__name__}.")
    if isinstance(value, str):
        _require_utf8(name, value)
    return value


def message_field(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """A message that goes into git: stripped, without NUL, at most `limits.MESSAGE` characters."""
    text = field(body, name, str, default).strip()
    if len(text) > limits.MESSAGE or "\0" in text:
        raise bad_request(f"{name!r} must have at most {limits.MESSAGE} characters, none of them NUL.")
    return text


def _require_utf8(name: str, value: str) -> None:
    try:  # JSON can spell half a surrogate pair, which no file name, header or database column can hold
        value.encode()
    except UnicodeEncodeError as error:
        raise bad_request(f"{name!r} is not valid Unicode.") from error
