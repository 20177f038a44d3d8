"""Who may ask, and how many at once: decided before a request's body is read."""

import hmac
import ipaddress
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hyperdust.gateway.config import LOOPBACK, GatewayConfig
from hyperdust.gateway.errors import Busy, NoKey, NotHere, Refused

_OPEN = "/health"


class Guard:
    """Passes requests on to the application, or refuses them."""

    def __init__(self, application: ASGIApp, config: GatewayConfig) -> None:
        self._application = application
        self._config = config
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; the place that it takes is free again when its answer is sent, streams included."""
        if scope["type"] != "http" or scope["path"] == _OPEN:
            await self._application(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope))
            counts = scope["method"] == "POST"
            if counts and self._active >= self._config.concurrency:
                raise Busy(f"{self._active} requests are being answered (--concurrency); ask again soon", wait_s=1)
        except Refused as refusal:
            await JSONResponse(refusal.as_json(), refusal.status, headers=refusal.headers())(scope, receive, send)
            return
        self._active += counts
        try:
            await self._application(scope, receive, send)
        finally:
            self._active -= counts

    def _check(self, headers: Mapping[str, str]) -> None:
        """Raises NoKey or NotHere."""
        if self._config.api_key:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            given = token.strip().encode() if scheme.lower() == "bearer" else b""
            if not hmac.compare_digest(given, self._config.api_key.encode()):
                raise NoKey("this gateway wants its --api-key as bearer token")
        elif not _is_own_name(headers.get("host", "")):
            # A page whose name an attacker pointed at this machine: it would spend the key's coins.
            raise NotHere("without --api-key this gateway answers to localhost alone")


def _is_own_name(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
