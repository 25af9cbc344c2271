"""What every request passes: who asks, whether a page of ours sent it, what a browser may do."""

import hmac
import math
import secrets
from hashlib import sha256
from http.cookies import SimpleCookie
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from oban.web.access import Auth, BasicAuth, User, only_here, user_of
from oban.web.guessing import Guesses

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
#: A page shows it where it shows what came of an action.
NOTE: Final = '<p class="note note-error" role="alert">{}: load the page again</p>'
NOTED: Final = {"hx-retarget": "#notes", "hx-reswap": "beforeend"}


class Guard:
    """Wraps the application: what it lets through has a user, and was sent by a page of ours."""

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self.app = app
        self.auth = auth
        self.guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asker = HTTPConnection(scope)
        # A route that is found changes the scope: what is below a mount has another root.
        path = f"{scope.get('root_path', '')}/"
        user, wait = await self.ask(asker)
        name = cookie_name(asker)
        token = token_of(asker, name)
        fresh = token is None
        token = token or secrets.token_urlsafe(32)
        answer: ASGIApp = self.app
        if user is None:
            answer = hurried(wait) if wait else self.turned_away()
        elif scope["method"] not in SAFE and (reason := forged(asker, token, fresh=fresh)):
            answer = HTMLResponse(NOTE.format(reason), 403, NOTED)
        # Not in the state itself, which the application around this one has as well.
        scope["state"] = {**scope.get("state", {}), "user": user, "csrf": token}

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if "cache-control" not in headers:  # a page: what may be kept sets no cookie
                    headers["cache-control"] = "no-store"
                    if fresh and user is not None:
                        headers.append("set-cookie", cookie(scope, path, name, token))
            await send(message)

        await answer(scope, receive, send_guarded)

    async def ask(self, asker: HTTPConnection) -> tuple[User | None, float]:
        """Who it is; or how long whoever has guessed too often is not even asked."""
        credentials = asker.headers.get("authorization")
        if credentials is None or not isinstance(self.auth, BasicAuth):
            return await user_of(self.auth, asker), 0.0
        address = asker.client.host if asker.client else ""
        if wait := self.guesses.wait(address, credentials):
            return None, wait
        user = await user_of(self.auth, asker)
        if user is None:
            self.guesses.were_wrong(address)
        else:
            self.guesses.were_right(credentials)
        return user, 0.0

    def turned_away(self) -> Response:
        if isinstance(self.auth, BasicAuth):
            challenge = {"www-authenticate": 'Basic realm="oban", charset="UTF-8"'}
            return PlainTextResponse("Who are you?\n", 401, challenge)
        return PlainTextResponse(NOBODY if self.auth is only_here else "Not for you.\n", 403)


def hurried(wait: float) -> Response:
    seconds = math.ceil(wait)
    told = f"Too many wrong passwords came from your address: try again in {seconds} s.\n"
    return PlainTextResponse(told, 429, {"retry-after": str(seconds)})


def cookie_name(asker: HTTPConnection) -> str:
    """Another for each dashboard of a host: a browser sends a cookie to every port of it.

    And, of two dashboards of which one is mounted below the other's path, those of both to one.
    """
    place = f"{asker.headers.get('host', '')}{asker.scope.get('root_path', '')}"
    return f"{COOKIE}_{sha256(place.encode()).hexdigest()[:8]}"


def token_of(asker: HTTPConnection, name: str) -> str | None:
    found = asker.cookies.get(name)
    return found if found and len(found) == 43 else None


def forged(asker: HTTPConnection, token: str, *, fresh: bool) -> str | None:
    """Why a request that changes something was not sent by a page of ours, None if it was."""
    if asker.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return "the request was sent by another site"
    origin = asker.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != asker.headers.get("host"):
        return "the request was sent by another origin"
    given = asker.headers.get(HEADER, "")
    if fresh or not hmac.compare_digest(given.encode(), token.encode()):
        return "the request has not the token of a page"
    return None


def cookie(scope: Scope, path: str, name: str, token: str) -> str:
    made: SimpleCookie = SimpleCookie({name: token})
    made[name]["path"] = path
    made[name]["httponly"] = True
    made[name]["samesite"] = "Strict"
    if scope.get("scheme") == "https":
        made[name]["secure"] = True
    return made[name].OutputString()
