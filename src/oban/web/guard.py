"""What every request passes: who asks, whether a page of ours sent it, what a browser may do."""

import hmac
import secrets
from http.cookies import SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oban.web.access import Auth, BasicAuth, only_here, user_of

COOKIE: Final = "oban_csrf"
HEADER: Final = "x-csrf-token"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Nothing but what comes from here, and no script or style within a page.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
NOBODY: Final = (
    "Nobody may see this dashboard from elsewhere until somebody says who may: "
    "oban.web.app(…, auth=BasicAuth({…})), or OBAN_WEB_USERS for `oban web`.\n"
)


class Guard:
    """Wraps the application: what it lets through has a user, and was sent by a page of ours."""

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self.app = app
        self.auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asker = HTTPConnection(scope)
        user = await user_of(self.auth, asker)
        token = token_of(asker)
        fresh = token is None
        token = token or secrets.token_urlsafe(32)
        answer: ASGIApp = self.app
        if user is None:
            answer = self.turned_away()
        elif scope["method"] not in SAFE and (reason := forged(asker, token, fresh=fresh)):
            answer = PlainTextResponse(f"{reason}: load the page again\n", 403)
        scope.setdefault("state", {}).update(user=user, csrf=token)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
                if fresh and user is not None:
                    headers.append("set-cookie", cookie(scope, token))
            await send(message)

        await answer(scope, receive, send_guarded)

    def turned_away(self) -> Response:
        if isinstance(self.auth, BasicAuth):
            challenge = {"www-authenticate": 'Basic realm="oban", charset="UTF-8"'}
            return PlainTextResponse("Who are you?\n", 401, challenge)
        return PlainTextResponse(NOBODY if self.auth is only_here else "Not for you.\n", 403)


def token_of(asker: HTTPConnection) -> str | None:
    found = asker.cookies.get(COOKIE)
    return found if found and len(found) == 43 else None


def forged(asker: HTTPConnection, token: str, *, fresh: bool) -> str | None:
    """Why a request that changes something was not sent by a page of ours, None if it was."""
    if asker.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return "the request was sent by another site"
    origin = asker.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != asker.headers.get("host"):
        return "the request was sent by another origin"
    given = asker.headers.get(HEADER, "")
    if fresh or not hmac.compare_digest(given.encode(), token.encode()):
        return "the request has not the token of a page"
    return None


def cookie(scope: Scope, token: str) -> str:
    made: SimpleCookie = SimpleCookie({COOKIE: token})
    made[COOKIE]["path"] = f"{scope.get('root_path', '')}/"
    made[COOKIE]["httponly"] = True
    made[COOKIE]["samesite"] = "Strict"
    if scope.get("scheme") == "https":
        made[COOKIE]["secure"] = True
    return made[COOKIE].OutputString()
