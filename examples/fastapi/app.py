"""Sign people up and welcome them: the row and the job are committed together, or neither is."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from pydantic import BaseModel, StringConstraints
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from examples.fastapi.models import Base, Signup
from examples.fastapi.workers import send_welcome
from oban import JobState, Oban, schema

Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
JobId = Annotated[int, Path(ge=1, lt=2**63)]
Sessions = async_sessionmaker[AsyncSession]


class NewSignup(BaseModel):
    email: Email


class SignupMade(BaseModel):
    signup_id: int
    job_id: int


class JobStatus(BaseModel):
    id: int
    state: JobState
    attempt: int
    max_attempts: int
    errors: list[dict[str, Any]]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One Oban for the process: it enqueues for the requests and runs the jobs beside them."""
    dsn = os.environ["DATABASE_URL"]
    engine = create_async_engine(make_url(dsn).set(drivername="postgresql+psycopg"))
    try:
        # A real application does both in its migrations.
        await schema.install(dsn)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
        async with Oban(pool=dsn, queues={"mailers": 10}) as app.state.oban:
            yield
    finally:
        await engine.dispose()


app = FastAPI(title="Signups", lifespan=lifespan)


def sessions(request: Request) -> Sessions:
    found: Sessions = request.app.state.sessions
    return found


def oban(request: Request) -> Oban:
    found: Oban = request.app.state.oban
    return found


@app.post("/signups", status_code=201)
async def sign_up(new: NewSignup, sessions: Annotated[Sessions, Depends(sessions)]) -> SignupMade:
    """The transaction ends here, before the answer is sent: what was answered is committed."""
    try:
        async with sessions.begin() as session:
            signup = Signup(email=new.email)
            session.add(signup)
            job = await send_welcome.enqueue(new.email, conn=session)
    except IntegrityError as error:
        raise HTTPException(409, f"{new.email} has signed up already") from error
    assert job.id is not None
    return SignupMade(signup_id=signup.id, job_id=job.id)


@app.get("/jobs/{job_id}")
async def job_status(job_id: JobId, oban: Annotated[Oban, Depends(oban)]) -> JobStatus:
    job = await oban.get_job(job_id)
    if job is None:
        raise HTTPException(404, f"there is no job {job_id}")
    return JobStatus.model_validate(job, from_attributes=True)
