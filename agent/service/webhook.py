"""Posts JSON to the operator's webhook, by the connections and settings that registries have."""

from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from agent import __version__
from agent.context import Context
from agent.settings.outside import shown_address
from registry.errors import RegistryError

_MAY_PASS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why it did not take what was posted.

    Attributes:
        why: Without what of its address may be a secret.
        may_pass: Whether it may take it later.
    """

    why: str
    may_pass: bool


def post(context: Context, body: bytes, *, timeout_s: float) -> Problem | None:
    """Post to ``hooks.webhook``; None where it took it. What it answers is not read.

    No redirect is followed: it could lead anywhere. Proxy, and certificates of its host, are
    those of the config.

    Args:
        context: The installation.
        body: One JSON document.
        timeout_s: For all of it, once connected.
    """
    import urllib3

    url = context.config.hooks.webhook
    shown, parts = shown_address(url), urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    headers = {"Content-Type": "application/json", "User-Agent": f"agent/{__version__}"}
    headers |= urllib3.make_headers(basic_auth=unquote(user)) if user else {}
    connections = context.registries.connections
    try:
        pool = connections.to(f"{parts.scheme}://{host}", context.registries.settings_of(host))
        with connections.deadline.within(timeout_s):
            answer = pool.request(
                "POST",
                parts._replace(netloc=host, fragment="").geturl(),
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=timeout_s,
            )
            answer.close()
    except (urllib3.exceptions.HTTPError, RegistryError, OSError) as error:
        # An error's text may hold the address.
        return Problem(f"cannot reach {shown}: {type(error).__name__}", may_pass=True)
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    is_ours = answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status not in _MAY_PASS
    return Problem(f"{shown} answered {answer.status}", may_pass=not is_ours)
