"""Signing in with a token, and out."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.responses import RedirectResponse, Response

from perdure.hub import auth
from perdure.hub.core import Call
from perdure.hub.http import ApiError, bad_request
from perdure.hub.session import COOKIE, SECONDS
from perdure.hub.web import page

_FIELDS: Final = 4


def form(call: Call) -> Response:
    """The form that asks for a token."""
    return page.render(call, "sign_in.html", next=_local(call.query("next")), wrong=False)


def sign_in(call: Call) -> Response:
    """Start a session for the holder of the token in the form, and go to where they came from."""
    _refuse_other_sites(call)
    fields = _fields(call)
    target = _local(fields.get("next", ""))
    token = fields.get("token", "").strip()
    try:
        auth.authenticate(call.hub.db, f"Bearer {token}")
    except ApiError:
        answer = page.render(call, "sign_in.html", next=target, wrong=True)
        answer.status_code = 401
        return answer
    answer = RedirectResponse(target, status_code=303)
    answer.set_cookie(
        COOKIE,
        call.hub.sessions.start(token),
        max_age=SECONDS,
        path="/",
        secure=call.request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


def sign_out(call: Call) -> Response:
    """End the session, here and in every copy of its cookie."""
    _refuse_other_sites(call)
    call.hub.sessions.end(call.request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/", status_code=303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return answer


def _refuse_other_sites(call: Call) -> None:
    """A form on another site must not sign anybody in or out here; every browser names where a form came from."""
    origin = call.request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != call.request.headers["host"]:
        raise ApiError(403, "This form was sent from another site; nothing was done.")


def _fields(call: Call) -> dict[str, str]:
    try:
        form = parse_qs(call.body.decode("ascii"), max_num_fields=_FIELDS, errors="strict")
    except ValueError as error:
        raise bad_request("The form cannot be read.") from error
    return {name: values[0] for name, values in form.items()}


def _local(address: str) -> str:
    r"""An address on this hub to go on to; anything else becomes the first page.

    >>> _local("/me/model?p=2"), _local("https://elsewhere/"), _local("//elsewhere"), _local("/\\elsewhere")
    ('/me/model?p=2', '/', '/', '/')
    """
    plain = address.startswith("/") and not address.startswith("//") and all("!" <= c <= "~" for c in address)
    return address if plain and "\\" not in address else "/"
