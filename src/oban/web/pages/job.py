"""One job: what has happened to it, what it holds, and what can be done to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from oban.engines.browsing import JobSearch
from oban.errors import InvalidJob
from oban.explaining import explain
from oban.explanation import Explanation
from oban.job import JOB_FIELDS, Job
from oban.looking.moments import ended_at, times
from oban.looking.records import has_recorded, recorded, without_record
from oban.states import FINAL, JobState
from oban.web.access import Role
from oban.web.acting import ACTIONS
from oban.web.dashboard import Dashboard, dashboard_of
from oban.web.given import form_of, id_of, json_of
from oban.web.looks import TOO_DEEP, pretty

#: Seconds that a page waits for a stack, and for each look for it.
PATIENCE: Final = 2.0
#: Runs of the same worker beside a job.
NEIGHBOURS: Final = 40
#: Characters of a field that can be edited.
MOST_EDITED: Final = 1_000_000
#: Things that have happened to a job: a row of somebody else may tell of thousands.
MOST_EVENTS: Final = 100
#: What of a job a clone takes over.
CLONED: Final = ("worker", "queue", "priority", "max_attempts", "tags", "args")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to a job, or will."""

    at: datetime | None
    kind: str
    told: str
    #: Seconds since the one before it, where that is a span of the job's life.
    after: float | None = None
    error: str | None = None


async def index(request: Request) -> Response:
    dashboard = dashboard_of(request)
    explanation = await explained(dashboard, request)
    job = explanation.job
    is_part = request.headers.get("hx-target") == "job"
    history = await neighbours(dashboard, job)
    return dashboard.page(
        request,
        "_job.html" if is_part else "job.html",
        title=f"Job {job.id}",
        job=job,
        causes=explanation.causes,
        events=events(job),
        most_events=MOST_EVENTS,
        times=times(job),
        meta=without_record(job),
        recorded=[recorded(job)] if has_recorded(job) else None,
        history=history,
        longest=max((each[1] or 0 for each in history), default=0) or 1,
        can=possible(job),
    )


async def whole(request: Request) -> Response:
    """All that its row holds and that may be seen, however long."""
    dashboard = dashboard_of(request)
    job = (await explained(dashboard, request)).job
    shown = {name: getattr(job, name) for name in JOB_FIELDS}
    shown |= {name: at.isoformat() for name, at in shown.items() if isinstance(at, datetime)}
    shown |= {"args": dashboard.args(job.args), "meta": dashboard.shown(without_record(job))}
    if has_recorded(job):
        shown["recorded"] = dashboard.shown(recorded(job))
    return Response(pretty(shown), media_type="application/json")


async def explained(dashboard: Dashboard, request: Request) -> Explanation:
    """The job, and why it does not run or ended as it did."""
    job_id = id_of(request)
    facts = await dashboard.read(dashboard.oban.engine.explain(job_id))
    if facts is None:
        raise HTTPException(
            404, f"There is no job {job_id}: it never was, was deleted, or was pruned in time."
        )
    return explain(facts)


async def neighbours(dashboard: Dashboard, job: Job) -> list[tuple[Job, float | None]]:
    """The last runs of the same worker, the oldest first, each with the seconds it took."""
    engine = dashboard.oban.engine
    page = await dashboard.read(engine.browse(JobSearch(worker=job.worker), NEIGHBOURS))
    return [(each, times(each)["run"]) for each in reversed(page.jobs)]


def events(job: Job) -> list[Event]:
    """The life of a job as far as its row tells it, in order."""
    known = [Event(job.inserted_at, "inserted", "inserted")]
    is_later = job.scheduled_at and job.inserted_at and job.scheduled_at > job.inserted_at
    if is_later and job.state in (JobState.SCHEDULED, JobState.RETRYABLE):
        known.append(Event(job.scheduled_at, job.state, f"due, {job.state}"))
    errors: object = job.errors
    known += map(failure, errors if isinstance(errors, list) else [])
    if job.attempted_at:
        node = job.attempted_by[0] if job.attempted_by else "an unknown node"
        told = f"attempt {job.attempt} began on {node}"
        known.append(Event(job.attempted_at, "executing", told, times(job)["wait"]))
    if job.state in FINAL and (at := ended_at(job)):
        known.append(Event(at, job.state, str(job.state), times(job)["run"]))
    ended = ended_at(job) or datetime.now(UTC)
    return sorted(known, key=lambda each: each.at or ended)


def failure(error: object) -> Event:
    """An entry of `errors`; a foreign row may hold anything there."""
    if not isinstance(error, Mapping):
        return Event(None, "failed", "an error", error=str(error))
    at: datetime | None = None
    try:
        at = datetime.fromisoformat(str(error.get("at")))
        at = at if at.tzinfo else None
    except ValueError:
        pass
    text = str(error.get("error", ""))
    what = "failed" if "Traceback" in text else "said why"
    return Event(at, "failed", f"attempt {error.get('attempt', '?')} {what}", error=text)


def possible(job: Job) -> dict[str, bool]:
    """What can be done to a job in its state."""
    is_running = job.state is JobState.EXECUTING
    return {
        "cancel": job.state not in FINAL,
        "retry": job.state in FINAL,
        "run": job.state in (JobState.SCHEDULED, JobState.RETRYABLE, JobState.SUSPENDED),
        "delete": not is_running,
        "edit": not is_running,
    }


def edited_text(dashboard: Dashboard, job: Job) -> dict[str, str]:
    """The fields of a form; what is redacted cannot be edited, since it would be lost."""
    texts = {
        "queue": job.queue,
        "priority": str(job.priority),
        "max_attempts": str(job.max_attempts),
        "tags": ", ".join(job.tags),
        "args": pretty(job.args),
        "meta": pretty(job.meta),
    }
    for name in ("args", "meta"):
        value = getattr(job, name)
        if dashboard.args(value) != value:
            del texts[name]
    texts = {
        name: text for name, text in texts.items() if len(text) <= MOST_EDITED and text != TOO_DEEP
    }
    if dashboard.redact and without_record(job) != job.meta:  # encoded, and with all that is in it
        texts.pop("meta", None)
    return texts


async def stack(request: Request) -> Response:
    """Where its code is just now."""
    dashboard = dashboard_of(request)
    asked = dashboard.oban.job_stack(id_of(request), patience=PATIENCE)
    told = await dashboard.soon(asked, 2 * PATIENCE)
    return dashboard.page(request, "_stack.html", title="Stack", told=told)


async def act(request: Request) -> Response:
    """Cancel, retry or delete it; `run` makes it available now."""
    dashboard = dashboard_of(request)
    name = request.path_params["action"]
    action = ACTIONS.get("retry" if name == "run" else name)
    if action is None:
        raise HTTPException(404, f"there is no action {name!r:.40}")
    user = dashboard.require(request, action.role)
    job_id = id_of(request)
    done = await action.act(dashboard.oban, [job_id])
    dashboard.tell(user, name, ids=[job_id], count=done)
    if not done:
        return dashboard.note(
            request, f"Job {job_id} could not be {action.done}: look at its state.", kind="error"
        )
    told = "runs as soon as a slot is free" if name == "run" else f"is {action.done}"
    response = dashboard.note(request, f"Job {job_id} {told}.")
    if name == "delete":
        response.headers["hx-redirect"] = f"{request.scope.get('root_path', '')}/jobs"
    return response


async def clone(request: Request) -> Response:
    """Enqueue another job with the same worker, arguments and options, to run now."""
    dashboard = dashboard_of(request)
    user = dashboard.require(request, Role.OPERATE)
    job = (await explained(dashboard, request)).job
    wanted = Job(**{name: getattr(job, name) for name in CLONED})
    inserted = await dashboard.oban.enqueue(wanted)
    dashboard.tell(user, "clone", ids=[job.id], clone=inserted.id, count=1)
    response = dashboard.note(request, f"Job {inserted.id} is enqueued.")
    response.headers["hx-redirect"] = f"{request.scope.get('root_path', '')}/jobs/{inserted.id}"
    return response


async def form(request: Request) -> Response:
    """The form that edits it, as it is now: a page that was open for long would show what was."""
    dashboard = dashboard_of(request)
    dashboard.require(request, Role.ADMIN)
    job = (await explained(dashboard, request)).job
    return dashboard.page(
        request, "_edit.html", title="Edit", job=job, editable=edited_text(dashboard, job)
    )


async def edit(request: Request) -> Response:
    """Write what was changed in the form, unless somebody else has changed just that meanwhile."""
    dashboard = dashboard_of(request)
    user = dashboard.require(request, Role.ADMIN)
    fields = {name: text.replace("\r\n", "\n") for name, text in (await form_of(request)).items()}
    job_id = id_of(request)
    changes: dict[str, Any] = {}

    def changed(job: Job) -> Mapping[str, Any]:
        changes.clear()
        changes.update(changed_in(fields, edited_text(dashboard, job)))
        return changes

    if await dashboard.oban.update_job(job_id, changed) is None:
        raise HTTPException(404, f"There is no job {job_id} any more.")
    if not changes:
        return dashboard.note(request, "Nothing was changed.")
    dashboard.tell(user, "edit", ids=[job_id], fields=sorted(changes), count=1)
    return dashboard.note(request, f"Job {job_id}: {', '.join(changes)} changed.")


def changed_in(fields: Mapping[str, str], now: Mapping[str, str]) -> dict[str, Any]:
    """What a form changes of a job that is `now` so; it tells what it was when it was shown.

    Raises HTTPException for what somebody else has changed since, InvalidJob for what is no value.
    """
    changes = {}
    for name, known in now.items():
        text, was = fields.get(name, known), fields.get(f"was-{name}", known)
        if text in (was, known):
            continue
        if was != known:
            raise HTTPException(409, f"{name} was changed by somebody else: open the form again")
        changes[name] = read_field(name, text)
    return changes


def read_field(name: str, text: str) -> Any:
    """Raises InvalidJob for a text that is none of its kind."""
    match name:
        case "queue":
            return text.strip()
        case "tags":
            return [each.strip() for each in text.split(",") if each.strip()]
        case "args" | "meta":
            try:
                return json_of(text)
            except ValueError as error:
                raise InvalidJob(f"{name} is no JSON: {error}") from None
        case _:
            try:
                return int(text)
            except ValueError:
                raise InvalidJob(f"{name} is {text!r:.40}; it is a number") from None


routes: Final = [
    Route("/jobs/{id}", index, name="job"),
    Route("/jobs/{id}/json", whole),
    Route("/jobs/{id}/stack", stack),
    Route("/jobs/{id}/clone", clone, methods=["POST"]),
    Route("/jobs/{id}/edit", form),
    Route("/jobs/{id}/edit", edit, methods=["POST"]),
    Route("/jobs/{id}/{action}", act, methods=["POST"]),
]
