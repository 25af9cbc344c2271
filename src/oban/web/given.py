"""What a request gives: an id, a form or JSON, no more of it than a page of ours would send."""

import json
from typing import Any, Final, TypeGuard
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from oban.fields import MAX_ID

#: Bytes of a request: the arguments of a job that is edited, and what stands around them.
MOST_BYTES: Final = 8_000_000


async def body_of(request: Request) -> bytes:
    """Raises HTTPException for one that is too long, without having read all of it."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > MOST_BYTES:
            raise HTTPException(413, f"a request has {MOST_BYTES:,} bytes at most")
    return bytes(read)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, also those that were left empty."""
    try:
        return dict(parse_qsl((await body_of(request)).decode(), keep_blank_values=True))
    except UnicodeDecodeError:
        raise HTTPException(400, "the form is not valid UTF-8") from None


def id_of(request: Request) -> int:
    """The id in the address. Raises HTTPException for one that no job can have."""
    text = request.path_params["id"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= MAX_ID):
        raise HTTPException(
            404, f"There is no job {text:.40}: an id is a number, {MAX_ID} at most."
        )
    return int(text)


def json_of(text: str | bytes) -> Any:
    """Raises ValueError for what is no JSON, or is nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def is_id(given: object) -> TypeGuard[int]:
    return isinstance(given, int) and not isinstance(given, bool) and 0 < given <= MAX_ID
