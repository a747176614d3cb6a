"""Disabling and enabling by hand: the operator's emergency stop, and the way back."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import (
    AgentError,
    BusyError,
    LedgerError,
    NotFoundError,
    RollbackError,
    TrustError,
    translated,
)
from agent.model import Decision, Generation, Kind, Outcome, Stop
from agent.pipeline.probation import Verdict
from agent.pipeline.settling import settle
from agent.telemetry import Telemetry
from agent.tree.effects import NOTHING_GOOD
from agent.tree.sealed import require_loadable
from agent.verbs.beside import disable_beside, why_unwritten
from agent.verbs.inventory import is_whole, require_own
from agent.verbs.own import own_ids


def disable(context: Context, telemetry: Telemetry, plugin_id: str, *, dry_run: bool) -> Outcome:
    """Take a plugin out of service until ``enable``; running hosts refuse its calls at once.

    An open trial is judged first; where it can't be, or is not over, it ends without a verdict.
    Neither the registry nor the trust store nor the plugin's bytes are needed. Where the ledger
    can't be written, or knows less than the tree, the tree's word alone counts, and the outcome has
    an error.

    Args:
        context: The installation.
        telemetry: Where the span of a trial's end goes.
        plugin_id: The plugin.
        dry_run: Change nothing.

    Raises:
        NotFoundError: It is not installed.
        PolicyError: It is the system's.
        BusyError: Another process holds the tree.
        LedgerError: The ledger does not know the tree.
    """
    try:
        return _disable(context, telemetry, plugin_id, dry_run=dry_run)
    except (sqlite3.Error, LedgerError) as error:
        why = None if dry_run else why_unwritten(context, plugin_id, error)
        if why is None:
            raise
        return disable_beside(context, plugin_id, why)


def _disable(context: Context, telemetry: Telemetry, plugin_id: str, *, dry_run: bool) -> Outcome:
    installed = require_own(context, plugin_id, "disable")
    activation = context.activation
    before = activation.live(plugin_id)
    if dry_run:
        if installed.stop is Stop.DISABLED:
            return _row(plugin_id, Kind.CURRENT, "disable", "already disabled")
        back = _brings_back(activation.good(plugin_id))
        return _row(plugin_id, Kind.PLANNED, "disable", f"would be disabled; {back}", before)
    was_done = installed.stop is Stop.DISABLED and not activation.is_unfinished(plugin_id)
    unjudged = end_of_trial(context, telemetry, plugin_id)
    with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
        if activation.is_removed(plugin_id):
            # A removal that a crash cut short was finished just now.
            require_own(context, plugin_id, "disable")
        now = context.ledger.installed(plugin_id)
        if now is None or now.stop is not Stop.DISABLED:
            with _telling_what_holds(context, plugin_id):
                activation.disable(plugin_id)
        else:
            activation.recover_one(plugin_id)
    back = _brings_back(activation.good(plugin_id))
    detail = f"disabled; {back}{unjudged}{_left_of(context, plugin_id)}"
    outcome = _row(plugin_id, Kind.COMMITTED, "disable", detail, before)
    if was_done:
        outcome = _row(plugin_id, Kind.CURRENT, "disable", f"already disabled; {back}")
    return noted(context, outcome, dry_run=dry_run)


def _left_of(context: Context, plugin_id: str) -> str:
    """Which flat files of its stem are somebody's, and stay: other programs may run them."""
    tree, generations = context.tree, context.ledger.generations(plugin_id)
    stems = sorted({generation.stem for generation in generations})
    left = [path for stem in stems for path in tree.flat_files(stem) if os.path.lexists(path)]
    if not left:
        return ""
    names = ", ".join(path.name for path in left)
    return f"; left in {tree.root}, because they are no copies of the agent's: {names}"


@contextlib.contextmanager
def _telling_what_holds(context: Context, plugin_id: str) -> Iterator[None]:
    """Say, where a disk lets nothing be removed, that the word was written: hosts heed that."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        cause, now = translated(error), context.ledger.installed(plugin_id)
        if cause is None or now is None or now.stop is not Stop.DISABLED:
            raise
        raise AgentError(
            f"cannot take away all of {plugin_id}: {cause.message}; it is disabled all the same, "
            "and hosts refuse its calls",
            hint=cause.hint,
        ) from error


def disable_all(context: Context, telemetry: Telemetry, *, dry_run: bool) -> list[Outcome]:
    """Disable every plugin of the user's; one that can't be keeps no other from being stopped.

    The tree's lock is waited for once: where it is busy, so are all that are left.
    """
    outcomes: list[Outcome] = []
    busy: BusyError | None = None
    for plugin_id in own_ids(context):
        if busy is not None:
            outcomes.append(_failed(plugin_id, "disable", busy))
            continue
        try:
            outcomes.append(disable(context, telemetry, plugin_id, dry_run=dry_run))
        except Exception as error:
            cause = translated(error)
            if cause is None:
                raise
            busy = cause if isinstance(cause, BusyError) else None
            outcomes.append(_failed(plugin_id, "disable", cause))
    return outcomes


def enable(context: Context, telemetry: Telemetry, plugin_id: str, *, dry_run: bool) -> Outcome:
    """Let a disabled plugin serve again: the release that was good, verified and loaded anew.

    Args:
        context: The installation.
        telemetry: Where the span of a trial's end goes.
        plugin_id: The plugin.
        dry_run: Change nothing.

    Returns:
        What was done; ``refused`` (7) where the release is no longer believed, ``failed`` (10)
        where it can't be run any more: it stays disabled. Where no good release is kept it is
        enabled, so that one may be pulled, with an error (3): nothing serves.

    Raises:
        NotFoundError: It is not installed.
        PolicyError: It is the system's.
        BusyError: Another process holds the tree, or changed the plugin meanwhile.
    """
    installed = require_own(context, plugin_id, "enable")
    activation = context.activation
    if not dry_run and activation.is_unfinished(plugin_id):
        # Enabled or disabled already, and cut short.
        settle(context, telemetry, plugin_id)
    if installed.stop is not Stop.DISABLED:
        row = _row(plugin_id, Kind.CURRENT, "enable", "not disabled", activation.live(plugin_id))
        return noted(context, row, dry_run=dry_run)
    good = activation.good(plugin_id)
    if good is not None:
        try:
            # Compiled, if need be, before the lock.
            require_loadable(context, good)
        except Exception as error:
            cause = translated(error)
            if cause is None:
                raise
            return noted(context, _not_enabled(context, good, cause), dry_run=dry_run)
    detail = NOTHING_GOOD if good is None else "serving"
    if not dry_run:
        with context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
            activation.recover_one(plugin_id)
            now = context.ledger.installed(plugin_id)
            if now is None or (now.stop, now.good) != (installed.stop, installed.good):
                raise BusyError(
                    f"cannot enable {plugin_id}: another agent changed it just now",
                    hint=f"agent enable {plugin_id}",
                )
            activation.enable(plugin_id)
    kind = Kind.PLANNED if dry_run else Kind.COMMITTED
    outcome = Outcome(
        plugin_id,
        kind,
        "enable",
        f"would be enabled: {detail}" if dry_run else f"enabled: {detail}",
        after=good.version if good else None,
        release=good.release if good else None,
        digest=good.digest if good else None,
        error=None if good else _nothing_serves(plugin_id),
    )
    return noted(context, outcome, dry_run=dry_run)


def end_of_trial(context: Context, telemetry: Telemetry, plugin_id: str) -> str:
    """Judge an open trial before its plugin goes; why it could not be, for the outcome's detail.

    Raises:
        BusyError: Another process holds the tree.
        LedgerError: The ledger does not know the tree, or knows less than it.
    """
    try:
        settle(context, telemetry, plugin_id)
    except Exception as error:
        cause = translated(error)
        if cause is None or isinstance(cause, BusyError | LedgerError):
            raise
        _keep_the_verdict(context, plugin_id)
        return f"; what was open could not be settled: {cause.message}"
    if context.ledger.trial(plugin_id) is not None:
        return "; its trial ended without a verdict"
    return ""


def noted(context: Context, outcome: Outcome, *, dry_run: bool) -> Outcome:
    """The outcome, as the decision that ``agent why`` tells; a refusal is audited, too."""
    if not dry_run:
        cause = outcome.error
        if cause is not None and outcome.kind in (Kind.REFUSED, Kind.FAILED):
            context.audit.refused(outcome.plugin_id, outcome.after, cause, kind=outcome.kind)
        context.ledger.note_decision(Decision.of(outcome, at=context.clock()))
    return outcome


def _keep_the_verdict(context: Context, plugin_id: str) -> None:
    """Reject what failed its trial, though nothing could be gone back to (a broken trust store).

    Only for a plugin that is about to be stopped: its release serves until then.
    """
    ledger = context.ledger
    trial = ledger.trial(plugin_id)
    if trial is None:
        return
    judgement = context.activation.judgement(trial)
    failed = ledger.generation(plugin_id, trial.release)
    if failed is not None and judgement.verdict is Verdict.UNHEALTHY:
        version, why = failed.version, judgement.detail
        ledger.reject(plugin_id, failed.release, version, reason=why, at=context.clock())


def _not_enabled(context: Context, good: Generation, cause: AgentError) -> Outcome:
    plugin_id = good.plugin_id
    message = f"cannot enable {plugin_id}: {cause.message}; it stays disabled"
    hint = f"agent remove {plugin_id}"
    if not is_whole(context, good):
        hint = f"agent doctor --fix forgets it, then agent enable {plugin_id}; or {hint}"
    error: AgentError = RollbackError(message, hint=hint)
    if isinstance(cause, TrustError):
        error = TrustError(message, hint=cause.hint)
    kind = Kind.REFUSED if error.is_rule else Kind.FAILED
    return Outcome(plugin_id, kind, "enable", message, after=good.version, error=error)


def _nothing_serves(plugin_id: str) -> NotFoundError:
    message = f"cannot serve {plugin_id}: {NOTHING_GOOD}"
    return NotFoundError(message, hint=f"agent pull {plugin_id}")


def _failed(plugin_id: str, step: str, cause: AgentError) -> Outcome:
    kind = Kind.REFUSED if cause.is_rule else Kind.FAILED
    return Outcome(plugin_id, kind, step, cause.message, error=cause)


def _row(
    plugin_id: str, kind: Kind, step: str, detail: str, before: Generation | None = None
) -> Outcome:
    return Outcome(
        plugin_id,
        kind,
        step,
        detail,
        before=before.version if before else None,
        release=before.release if before else None,
        digest=before.digest if before else None,
    )


def _brings_back(good: Generation | None) -> str:
    if good is not None:
        return f"agent enable brings back {good.version}"
    return f"{NOTHING_GOOD}: agent enable, then agent pull, brings one"
