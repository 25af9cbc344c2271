"""What the pages of a dashboard share: the Oban they look at, and how a page is made."""

import asyncio
import json
from collections.abc import Awaitable, Collection, Mapping
from typing import Any, Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from oban import telemetry
from oban.engines.browsing import ARGS_BYTES, PathValue
from oban.engines.operation import Operation
from oban.errors import DatabaseUnavailable, InvalidOption
from oban.integrations.figures import Watch
from oban.job import Job
from oban.looking.census import CensusTaker
from oban.looking.records import RECORDED
from oban.metrics import Scale, Series, clean_dimension
from oban.oban import Oban
from oban.reading import clean_filter
from oban.vault import is_sealed
from oban.web.access import Role, User
from oban.web.looks import TOO_DEEP, brief, bytes_text, environment

T = TypeVar("T")

#: Seconds that a read may take.
PATIENCE: Final = 3.0
#: Seconds that it may take beyond that to reach the database.
CONNECTING: Final = 2.0
HIDDEN: Final = "(redacted)"


class Dashboard:
    def __init__(
        self, oban: Oban, *, read_only: bool, redact: Collection[str], refresh: float
    ) -> None:
        if isinstance(redact, str):
            raise InvalidOption(
                f"redact is {redact!r:.40}; it is a list of keys, as [{redact!r:.40}]"
            )
        self.oban = oban
        self.read_only = read_only
        self.redact = frozenset(redact)
        self.refresh = refresh
        #: Pages that are told when to look again.
        self.listener_count = 0
        self.census = CensusTaker(oban.engine, self.read)
        #: What programs are told of the queues.
        self.watch = Watch(oban.engine)
        self.templates = environment()

    async def close(self) -> None:
        await self.census.close()

    async def read(self, operation: Operation[T], seconds: float | None = None) -> T:
        """Carry out a read, which nothing holds up for longer than that."""
        engine = self.oban.engine
        patience = PATIENCE if seconds is None else seconds
        return await self.soon(engine.execute(engine.within(operation, patience)), patience)

    async def soon(self, answer: Awaitable[T], patience: float) -> T:
        """Wait for what the server gives up in time, unless it cannot be reached."""
        try:
            async with asyncio.timeout(patience + CONNECTING):
                return await answer
        except TimeoutError:
            raise DatabaseUnavailable(
                f"the database has not answered within {patience + CONNECTING:g} s"
            ) from None

    async def metrics(
        self,
        by: str,
        since: float,
        *,
        step: float | None = None,
        limit: int = 20,
        queue: str | None = None,
        worker: str | None = None,
        node: str | None = None,
        state: str | None = None,
    ) -> list[Series]:
        """As `Oban.metrics`, within the time that a read may take."""
        wanted = clean_filter(queue, worker, node, state, limit)
        operation = self.oban.engine.metrics(clean_dimension(by), Scale.of(since, step), wanted)
        return await self.read(operation)

    # Who may do what

    def may(self, request: Request, role: Role) -> bool:
        user: User = request.state.user
        return user.role >= role and (role is Role.READ or not self.read_only)

    def require(self, request: Request, role: Role) -> User:
        """Who acts. Raises HTTPException for who may not."""
        user: User = request.state.user
        if self.read_only:
            raise HTTPException(403, "this dashboard changes nothing: it is read-only")
        if user.role < role:
            raise HTTPException(
                403, f"that takes the role {role.name.lower()}; you have {user.role.name.lower()}"
            )
        return user

    def tell(self, user: User, action: str, **details: object) -> None:
        """What somebody has done, for whoever keeps account of it."""
        metadata = {"user": user.name, "role": user.role.name.lower(), "action": action, **details}
        telemetry.execute("oban.web.action", metadata)

    # What is shown

    def shown(self, value: Any) -> Any:
        """A value of a job without what is not to be seen."""
        try:
            return self.redacted(value) if self.redact else value
        except RecursionError:
            return TOO_DEEP

    def redacted(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: HIDDEN if key in self.redact else self.redacted(each)
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.redacted(each) for each in value]
        return value

    def hides(self, path: PathValue) -> bool:
        """Whether who searches for this value could guess what is not to be seen."""
        if not self.redact:
            return False
        is_record = path.field == "meta" and path.keys[0] in RECORDED
        # A whole object or list, as PostgreSQL writes it: something within may be redacted.
        is_whole = path.text.lstrip().startswith(("{", "["))
        return is_record or is_whole or not self.redact.isdisjoint(path.keys)

    def group(self, text: str | None) -> str | None:
        """A value by which jobs were grouped; of an object or a list what may be seen."""
        if not self.redact or text is None or not text.startswith(("{", "[")):
            return text
        try:
            return json.dumps(self.shown(json.loads(text)), ensure_ascii=False)
        except (ValueError, RecursionError):
            return HIDDEN

    def args(self, args: Any) -> Any:
        return (
            {"encrypted": "(only nodes with the key can read it)"}
            if is_sealed(args)
            else (self.shown(args))
        )

    def glance(self, job: Job) -> str:
        """The arguments of a job in a list, on one line."""
        size = job.extra.get(ARGS_BYTES)
        if size is not None:
            return f"({bytes_text(size)}, on the page of the job)"
        return brief(self.args(job.args))

    def page(
        self, request: Request, template: str, *, status: int = 200, **context: Any
    ) -> Response:
        user: User = request.state.user
        root = request.scope.get("root_path", "")
        text = self.templates.get_template(template).render(
            root=root,
            path=request.url.path.removeprefix(root) or "/",
            csrf=request.state.csrf,
            user=user,
            may_operate=self.may(request, Role.OPERATE),
            may_admin=self.may(request, Role.ADMIN),
            read_only=self.read_only,
            refresh=self.refresh,
            name=self.oban.name,
            show=self.shown,
            show_args=self.args,
            glance=self.glance,
            **context,
        )
        return HTMLResponse(text, status)

    def note(
        self, request: Request, told: str, *, kind: str = "done", status: int = 200
    ) -> Response:
        """What came of an action, shown for a moment; the page looks again by itself."""
        response = self.page(request, "_note.html", status=status, told=told, kind=kind)
        response.headers["hx-retarget"] = "#notes"
        response.headers["hx-reswap"] = "beforeend"
        if kind == "done":
            response.headers["hx-trigger"] = "look"
        return response


def dashboard_of(request: Request) -> Dashboard:
    found: Dashboard = request.app.state.dashboard
    return found
