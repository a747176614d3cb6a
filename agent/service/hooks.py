"""The operator's hooks: commands that the service runs when something happened, and a webhook.

Each has a thread of its own, so that neither updates nor the other wait for one that is slow.
``pre_activate`` is not here: it runs where a release is taken (``agent.pipeline.veto``).
"""

import logging
import time
from collections.abc import Callable, Sequence

from agent.commands import run_command
from agent.context import Context
from agent.notice import notice
from agent.pipeline.runs import APPROVAL_NEEDED
from agent.pipeline.veto import log_said
from agent.service.feed import Feed, Happening
from agent.service.follower import Follower, Took
from agent.service.webhook import post
from sandbox.log import escape_text

_LOG = logging.getLogger("stack_composer.hooks")
_HOOKS = {
    "committed": "post_commit",
    "rolled back": "on_rollback",
    "rollback": "on_rollback",
    "rollback failed": "on_rollback",
    APPROVAL_NEEDED: "on_approval_needed",
}
"""The history's words, and the key of what is run then."""
_LEAVES = frozenset(kind for kind, hook in _HOOKS.items() if hook == "on_rollback")
_COMMAND_PAUSES_S = (1.0, 10.0)
_WEBHOOK_PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0)


class Hooks:
    """Runs the hooks of the config in force; see the module.

    Args:
        context_of: The installation as it is now.
        feed: What happens.
        command_pauses_s: Before each further attempt at a command that fails.
        webhook_pauses_s: The same of the webhook.
    """

    def __init__(
        self,
        context_of: Callable[[], Context],
        feed: Feed,
        *,
        command_pauses_s: Sequence[float] = _COMMAND_PAUSES_S,
        webhook_pauses_s: Sequence[float] = _WEBHOOK_PAUSES_S,
    ) -> None:
        self._followers = (
            Follower("hooks", context_of, feed, _run, pauses_s=command_pauses_s),
            Follower("webhook", context_of, feed, _post, pauses_s=webhook_pauses_s),
        )

    def start(self) -> None:
        """Go on with what happened since the last time; the first time from here on."""
        for follower in self._followers:
            follower.start()

    def close(self, timeout_s: float) -> None:
        """Begin nothing new; end what is still under way after a time: it is done again."""
        until_s = time.monotonic() + timeout_s
        for follower in self._followers:
            follower.stop()
        for follower in self._followers:
            follower.close(max(0.0, until_s - time.monotonic()))


def _run(context: Context, happening: Happening, given_up: int) -> Took:
    event, hooks = happening.event, context.config.hooks
    hook = _HOOKS.get(event.kind)
    words = getattr(hooks, hook) if hook else ()
    if not words:
        return Took.DONE
    ended = run_command(
        words,
        notice_of(happening),
        timeout_s=hooks.timeout,
        environ=context.environ,
        given_up=given_up,
    )
    log_said(str(hook), event.plugin_id, ended)
    if not ended.why:
        return Took.DONE
    _LOG.warning("the hook %s failed for %s: %s", hook, event.plugin_id, ended.complaint)
    return Took.AGAIN


def _post(context: Context, happening: Happening, _given_up: int) -> Took:
    hooks = context.config.hooks
    if not hooks.webhook or context.config.network.offline:
        return Took.DONE
    problem = post(context, notice_of(happening), timeout_s=hooks.timeout)
    if problem is None:
        return Took.DONE
    why = escape_text(problem.why)
    _LOG.warning("the webhook failed for %s: %s", happening.event.plugin_id, why)
    return Took.AGAIN if problem.may_pass else Took.OVER


def notice_of(happening: Happening) -> bytes:
    """What is told of something that happened, as a line of JSON."""
    event = happening.event
    before, after = event.beside, event.version
    if event.kind in _LEAVES:
        before, after = after, before
    return notice(
        event.kind,
        plugin_id=event.plugin_id,
        version=event.version,
        release=event.release,
        before=before,
        after=after,
        reason=event.detail,
        at=event.at,
    )
