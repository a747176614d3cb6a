"""The operator's own check before a release goes live: the hook ``pre_activate``."""

import logging

from agent.commands import Ended, run_command
from agent.context import Context
from agent.errors import PolicyError
from agent.model import Generation
from agent.notice import notice
from agent.pipeline.candidate import Candidate
from sandbox.log import escape_text

_LOG = logging.getLogger("stack_composer.hooks")


def ask_operator(context: Context, candidate: Candidate, serving: Generation | None) -> None:
    """Run the hook, if there is one; nothing is remembered of what it says.

    Outside any lock: it may take its time.

    Raises:
        PolicyError: It ended with another code than 0, late, or could not be run; with the
            reason vetoed.
    """
    hooks, manifest = context.config.hooks, candidate.manifest
    if not hooks.pre_activate:
        return
    given = notice(
        "activating",
        plugin_id=manifest.id,
        version=manifest.version,
        release=candidate.release,
        before=serving.version if serving else None,
        after=manifest.version,
        reason="",
        at=context.clock(),
    )
    ended = run_command(hooks.pre_activate, given, timeout_s=hooks.timeout, environ=context.environ)
    log_said("pre_activate", manifest.id, ended)
    if ended.why:
        raise PolicyError(
            f"cannot take {manifest.id} {manifest.version}: the hook pre_activate says no, "
            f"{ended.complaint}",
            reason="vetoed",
            hint="agent config show names the hook; the next update run asks it again",
        )


def log_said(hook: str, plugin_id: str, ended: Ended) -> None:
    """Put what a hook's command wrote into the log, line by line."""
    for stream in (ended.out, ended.err):
        for line in stream.splitlines():
            _LOG.info("%s of %s: %s", hook, plugin_id, escape_text(line))
