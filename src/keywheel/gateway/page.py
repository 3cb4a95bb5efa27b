"""The dashboard at `/`: static files, read once, with headers that allow nothing else (requirement C12).

The page and its assets hold no data, so everybody may load them and see the login form; the data routes decide for
themselves.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
GUARDED = {
    "content-security-policy": CONTENT_SECURITY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    media_type: str
    etag: str


class Page:
    """Serves the files of the folder `dashboard`; no other path can be asked for."""

    def __init__(self) -> None:
        self._assets = {
            entry.name: _asset(entry.name, entry.read_bytes())
            for entry in files("keywheel.gateway").joinpath("dashboard").iterdir()
            if _ending(entry.name) in TYPES
        }
        self._index = self._assets.pop(INDEX)

    async def get_page(self, _request: Request) -> Response:
        """`GET /`."""
        headers = {**GUARDED, "cache-control": "no-store"}
        return Response(self._index.body, 200, headers, self._index.media_type)

    async def get_asset(self, request: Request) -> Response:
        """`GET /assets/{name}`: a script, a style sheet, the icon."""
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404)
        # asked for anew each time, sent only when changed: a new version is seen at once
        headers = {**GUARDED, "cache-control": "no-cache", "etag": asset.etag}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        return Response(asset.body, 200, headers, asset.media_type)


def _asset(name: str, body: bytes) -> Asset:
    return Asset(body, TYPES[_ending(name)], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _ending(name: str) -> str:
    return name.rpartition(".")[2]
