"""The requests that look something up, and the one that runs an update."""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from starlette.types import Receive, Scope, Send

from agent.control.agency import Agency
from agent.control.answers import answer, bad, encoded
from agent.control.bounds import Bounds
from agent.control.pool import Pool
from agent.control.requests import caller_of, checked_id, json_body, only, plugin_id, query
from agent.control.rows import status_fields, updated_row
from agent.errors import DeadlineError, NotFoundError
from agent.verbs.inventory import entries
from agent.verbs.rows import details

T = TypeVar("T")
_LOG = logging.getLogger("stack_composer.control")
_MAX_IDS = 1_000
_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
Found = tuple[int, bytes]
"""A status and a body."""


async def within(scope: Scope, timeout_s: float, pool: Pool, work: Callable[[], T]) -> T:
    """Run a request's work on a thread, and wait so long for it.

    Raises:
        DeadlineError: It goes on, and nobody waits for it any more.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await pool.run(work, is_owner=caller_of(scope).is_owner)
    except TimeoutError:
        raise DeadlineError(f"cannot wait for the answer any longer than {timeout_s:g} s") from None


class Reading:
    """An ASGI application that answers with what a function finds.

    Args:
        pool: The threads it runs on.
        timeout_s: How long it may take.
        find: Gets the request.
        kind: The content type.
    """

    def __init__(
        self,
        pool: Pool,
        timeout_s: float,
        find: Callable[[Scope], Found],
        kind: bytes = b"application/json",
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._find = find
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Take one request."""
        query(scope, {})
        work = functools.partial(self._find, scope)
        status, body = await within(scope, self._timeout_s, self._pool, work)
        await answer(send, body, status, kind=self._kind)


class Looks:
    """What the service is asked for, and answers by looking.

    Args:
        agency: The service.
        pool: The threads for it.
        bounds: How long it may take.
    """

    def __init__(self, agency: Agency, pool: Pool, bounds: Bounds) -> None:
        self._agency = agency
        self._reading = functools.partial(Reading, pool, bounds.read_s)

    def status(self) -> Reading:
        """``/v1/status``."""
        return self._reading(lambda _: (200, encoded(status_fields(self._agency.status()))))

    def plugins(self) -> Reading:
        """``/v1/plugins``: hashed and judged anew, as ``agent list`` does."""

        def find(_: Scope) -> Found:
            with self._agency.serving():
                found = entries(self._agency.context(), warn=_LOG.warning)
                return 200, encoded({"plugins": [entry.row() for entry in found]})

        return self._reading(find)

    def plugin(self) -> Reading:
        """``/v1/plugins/{id}``: as ``agent info``."""

        def find(scope: Scope) -> Found:
            wanted = plugin_id(scope)
            with self._agency.serving():
                context = self._agency.context()
                for entry in entries(context, (wanted,), warn=_LOG.warning):
                    return 200, encoded({"plugins": [details(context, entry)]})
            raise NotFoundError(
                f"cannot find {wanted}: it is not installed", hint=f"agent pull {wanted}"
            )

        return self._reading(find)

    def ready(self) -> Reading:
        """``/readyz``: 503 until every plugin that can be loaded is."""

        def find(_: Scope) -> Found:
            status = self._agency.status()
            fields = {"ready": status.is_ready, "config_problem": status.config_problem}
            return 200 if status.is_ready else 503, encoded(fields)

        return self._reading(find)

    def metrics(self) -> Reading:
        """``/metrics``: Prometheus' text."""
        return self._reading(lambda _: (200, self._agency.metrics.prometheus()), _PROMETHEUS)


class Updates:
    """``POST /v1/updates``, an ASGI application.

    Args:
        agency: The service.
        pool: The threads for it.
        bounds: How long it may take, how long its body may be.
    """

    def __init__(self, agency: Agency, pool: Pool, bounds: Bounds) -> None:
        self._agency = agency
        self._pool = pool
        self._bounds = bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        query(scope, {})
        document = await json_body(scope, receive, self._bounds)
        only(document, "ids", "dry_run")
        ids = document.get("ids", [])
        dry_run = document.get("dry_run", False)
        if not isinstance(ids, list) or len(ids) > _MAX_IDS:
            raise bad(f"cannot use ids: expected a list of at most {_MAX_IDS}")
        if not isinstance(dry_run, bool):
            raise bad(f"cannot use dry_run: got {repr(dry_run)[:80]}, expected true or false")
        checked = tuple(checked_id(one) for one in ids)
        work = functools.partial(self._update, checked, dry_run=dry_run)
        body = await within(scope, self._bounds.update_s, self._pool, work)
        await answer(send, body)

    def _update(self, ids: Sequence[str], *, dry_run: bool) -> bytes:
        outcomes = self._agency.update(ids, dry_run=dry_run)
        return encoded({"plugins": [updated_row(outcome) for outcome in outcomes]})
