"""git-lfs: which large files are wanted, and moving them through links that sign themselves."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from perdure.hub import limits
from perdure.hub.core import Access, Call
from perdure.hub.http import ApiError, bad_request, field
from perdure.hub.paths import check_oid
from perdure.hub.resolve import send_file

_MEDIA_TYPE = "application/vnd.git-lfs+json"
_PURPOSE = "lfs-upload"
_DOWNLOAD = "lfs-download"


def batch(call: Call) -> Response:
    """Answer for each object with a link to upload it to or download it from; without one when it is stored already."""
    body = call.json()
    operation = field(body, "operation", str)
    if operation not in {"upload", "download"}:
        raise bad_request("'operation' must be 'upload' or 'download'.")
    if operation == "upload":
        call.require(Access.PROPOSE)
    if field(body, "hash_algo", str, "sha256").replace("_", "") != "sha256":
        raise ApiError(409, "Objects are named by sha256 here.")
    objects = field(body, "objects", list)
    if len(objects) > limits.LFS_OBJECTS:
        raise ApiError(413, f"A batch may have at most {limits.LFS_OBJECTS} objects.")
    return JSONResponse(
        {"transfer": "basic", "hash_algo": "sha256", "objects": [_answer(call, operation, item) for item in objects]},
        media_type=_MEDIA_TYPE,
    )


def _answer(call: Call, operation: str, item: object) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise bad_request("'objects' must be a list of objects.")
    oid, size = check_oid(field(item, "oid", str)), field(item, "size", int)
    answer: dict[str, Any] = {"oid": oid, "size": size}
    if not 0 <= size <= limits.BLOB:
        answer["error"] = {"code": 422, "message": f"A file may have 0 to {limits.BLOB} bytes."}
    elif operation == "download":
        answer |= _download(call, oid, size)
    elif not call.hub.holds_for(call.user, call.repo, oid) or call.hub.blobs.size(oid) != size:
        signature = call.signed(_PURPOSE, limits.LINK_SECONDS, oid=oid, size=size)
        answer["actions"] = {
            "upload": {"href": f"{call.base}/lfs/objects/{oid}?signature={signature}"},
            "verify": {"href": f"{call.repo_url()}.git/info/lfs/objects/verify"},
        }
    return answer


def _download(call: Call, oid: str, size: int) -> dict[str, Any]:
    if not call.hub.holds(call.repo, oid):
        return {"error": {"code": 404, "message": "This repository has no such object."}}
    signature = call.signed(_DOWNLOAD, limits.LINK_SECONDS, oid=oid)
    return {"actions": {"download": {"href": f"{call.base}/lfs/objects/{oid}?signature={signature}"}}}


def check_download(call: Call) -> None:
    """Refuse a download that its link does not allow."""
    _admit(call, _DOWNLOAD, Access.DOWNLOAD)


def _admit(call: Call, purpose: str, access: Access) -> dict[str, Any]:
    claims = call.admit_signed(call.query("signature"), purpose, access)
    if claims["oid"] != call.param("oid"):
        raise ApiError(403, "This link is for another object.")
    return claims


def download(call: Call) -> Response:
    """The bytes of one object, whole or a range of them."""
    oid = call.param("oid")
    size = call.hub.blobs.size(oid)
    if size is None:
        raise ApiError(404, f"The object {oid} is not stored.")
    headers = {"ETag": f'"{oid}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    return send_file(call, call.hub.blobs.path(oid), size, headers)


def check_link(call: Call) -> None:
    """Refuse an upload that its link does not allow, before any of it is read."""
    claims = _admit(call, _PURPOSE, Access.PROPOSE)
    declared = call.request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) != claims["size"]:
        raise bad_request(f"This link is for {claims['size']} bytes, not {declared}.")
    call.most = claims["size"]


def upload(call: Call) -> Response:
    """Take in one object: stored only when it is what its name says, and durable when this answers."""
    oid, staged = call.param("oid"), call.received
    if staged.sha256() != oid:
        raise bad_request(f"The bytes received have another sha256 ({staged.size} bytes); nothing was stored.")
    call.hub.blobs.put(oid, staged)
    call.hub.db.hold(call.repo, oid)
    return Response(status_code=200, headers={"ETag": f'"{oid}"'})


def verify(call: Call) -> Response:
    """Confirm that an object is stored with the size the client believes it has, or answer 404."""
    body = call.json()
    oid, size = check_oid(field(body, "oid", str)), field(body, "size", int)
    if not call.hub.holds_for(call.user, call.repo, oid) or call.hub.blobs.size(oid) != size:
        raise ApiError(404, f"The object {oid} of {size} bytes is not stored.")
    return JSONResponse({"oid": oid, "size": size}, media_type=_MEDIA_TYPE)
