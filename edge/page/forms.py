"""Forms: read with a bound on their size, then handled on a thread."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

Form = Mapping[str, str]

_MOST_BYTES = 1 << 20
_MOST_FIELDS = 200


def whole_number(text: str) -> int | None:
    """A number of up to nine digits; None if the text is something else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def posted(
    handle: Callable[[Request, Form], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that gets the request's form.

    Args:
        handle: called on a thread, so that it may wait for the disk.
    """

    async def endpoint(request: Request) -> Response:
        size = whole_number(request.headers.get("content-length", ""))
        if size is None or size > _MOST_BYTES:
            raise HTTPException(413, "the form is too large or of unknown size")
        try:
            async with request.form(max_files=0, max_fields=_MOST_FIELDS) as data:
                if any(isinstance(value, UploadFile) for value in data.values()):
                    raise HTTPException(400, "a form with a file is not accepted here")
                form = {key: str(value) for key, value in data.items()}
        except ClientDisconnect as e:
            raise HTTPException(400, "the connection was lost") from e
        return await run_in_threadpool(handle, request, form)

    return endpoint
