"""Whether a set of files may run here, and with what: trust, grants and limits for the sandbox."""

import hashlib
import logging
from typing import TYPE_CHECKING

from agent.errors import AgentError, TrustError, translated
from agent.model import Generation
from agent.pipeline.subjects import subject_of
from agent.reading import read_start
from agent.serving.grants import bounds_of, granted, isolation_for, limits_for
from agent.settings.data import data_dir
from agent.tree.remembering import decided_on, decisions_on
from sandbox.admission import Isolation
from sandbox.discovery import read_set

if TYPE_CHECKING:
    import sandbox
    import trust
    from agent.context import Context

_LOG = logging.getLogger("stack_composer.host")

_TAKEN_BACK = frozenset({"denied", "status"})
_MAX_SMALL_BYTES = 64 * 1024
"""More than a manifest or signature may have: one that is longer is another release."""


def problem_of(context: "Context", generation: Generation) -> str | None:
    """Why a sealed release could not serve: broken bytes, or no longer trusted.

    Returns:
        The reason; None where nothing speaks against it.
    """
    folder = context.tree.folder(generation)
    longest = context.config.sandbox.max_module_bytes
    try:
        files = read_set(folder / f"{generation.stem}.toml", max_module_bytes=longest)
        manifest = context.parse_manifest(files.manifest, f"{generation.stem}.toml")
    except Exception as error:
        cause = translated(error)
        if cause is None:
            raise
        return cause.message
    subject = subject_of(manifest, files.manifest, files.payload)
    if subject.release != generation.release:
        return f"the files in {folder} were changed: they are release {subject.release[:12]}"
    verdict = _judge_installed(context, subject, files, generation.repository)
    if verdict.accepted:
        return None
    return refusal(f"{manifest.id} {manifest.version}", verdict).message


def taken_back(context: "Context", generation: Generation) -> str | None:
    """Why a sealed release that was believed must not run: denied, or its key was revoked.

    Not that a store is missing or a key unknown to it: nobody has said anything of this release.

    Returns:
        The reason; None where nobody took anything back.

    Raises:
        trust.StoreError, UsageError: The trust store can't be used.
    """
    verdict = _judge_texts(context, generation)
    if verdict is None or verdict.accepted:
        return None
    bad = (finding for finding in verdict.findings if not finding.ok)
    said = next((one for one in bad if one.rule in _TAKEN_BACK), None)
    return None if said is None else f"{said.rule}: {said.detail}"


def is_signed_well(context: "Context", generation: Generation) -> bool:
    """Whether manifest and signature of a sealed release are believed; its code is not read."""
    verdict = _judge_texts(context, generation)
    return verdict is not None and (verdict.accepted or verdict.needs_payload)


def is_bare(context: "Context", generation: Generation) -> bool:
    """Whether a sealed release was signed over its code alone."""
    if not any("bare" in key.accepts for key in context.trust_store().keys):
        return False
    verdict = _judge_texts(context, generation)
    return verdict is not None and not verdict.accepted and verdict.needs_payload


def _judge_texts(context: "Context", generation: Generation) -> "trust.Verdict | None":
    """Judge a sealed release by its small files and its recorded hash; None: not even those.

    Nothing is parsed: where the release is what it should be, so are its id and version.
    """
    import trust

    folder = context.tree.folder(generation)
    try:
        manifest, signature = (
            read_start(folder / f"{generation.stem}.{part}", _MAX_SMALL_BYTES)
            for part in ("toml", "sig")
        )
    except OSError:
        return None
    subject = trust.Subject(
        generation.plugin_id,
        generation.version,
        hashlib.sha256(manifest).hexdigest(),
        generation.payload_sha256,
    )
    if subject.release != generation.release:
        return None
    evidence = trust.Evidence(signature, repository=generation.repository)
    return context.judge(subject, evidence, installed=True)


def _judge_installed(
    context: "Context",
    subject: "trust.Subject",
    files: "sandbox.PluginFiles",
    repository: str | None,
) -> "trust.Verdict":
    import trust

    evidence = trust.Evidence(files.signature, files.payload, repository)
    return context.judge(subject, evidence, installed=True)


def ceiling_of(context: "Context", generation: Generation) -> frozenset[str] | None:
    """The most that the key of an installed release may grant; None = no ceiling."""
    for key in context.trust_store().keys:
        if key.public.key_id == generation.key_id:
            is_open = key.max_capabilities is None and "bare" in key.accepts
            # A manifest that nobody signed asks for nothing.
            return frozenset() if is_open and is_bare(context, generation) else key.max_capabilities
    return frozenset()


def granted_to(context: "Context", generation: Generation) -> tuple[str, ...] | None:
    """What an installed release is granted of what it requests; None: the store is broken."""
    try:
        ceiling = ceiling_of(context, generation)
    except Exception as error:
        if translated(error) is None:
            raise
        return None
    now = context.clock()
    decisions = decisions_on(context.ledger, context.tree, generation.plugin_id, at=now)
    given = granted(context.config, generation.plugin_id, decisions, ceiling)
    return tuple(sorted(given & {"log", *generation.capabilities}))


def admit(
    context: "Context",
    files: "sandbox.PluginFiles",
    *,
    unsigned: bool,
    repository: str | None,
    isolation: Isolation | None,
) -> "sandbox.Admission":
    """Verify a set and say what it may do; raises ``TrustError`` where it is refused."""
    import sandbox
    import trust
    from agent.serving.spending import Purse

    manifest = context.parse_manifest(files.manifest, f"{files.stem}.toml")
    subject = subject_of(manifest, files.manifest, files.payload)
    ceiling: frozenset[str] | None = None
    if not unsigned:
        accepted = context.ledger.generation(manifest.id, subject.release)
        if accepted is not None:
            verdict = _judge_installed(context, subject, files, accepted.repository)
        elif files.folder == context.system_folder:
            # Whoever filled the system's folder has accepted it: time is not asked again.
            verdict = _judge_installed(context, subject, files, repository)
        else:
            evidence = trust.Evidence(files.signature, files.payload, repository)
            verdict = context.judge(subject, evidence)
        if not verdict.accepted:
            raise refusal(f"{manifest.id} {manifest.version}", verdict)
        ceiling = verdict.max_capabilities
    section = context.config.plugin(manifest.id)
    decided = decided_on(context.ledger, context.tree, manifest.id)
    # One that is used up is told so at each call: calls may be given back.
    now = context.clock()
    decisions = {one.capability: one.granted for one in decided if not one.is_over(now)}
    bounds = bounds_of(context.config, manifest.id, decided)
    counted = {bound.capability for bound in bounds if bound.max_calls is not None}
    purse = Purse(
        context, manifest.id, {one.capability: one for one in decided if one.capability in counted}
    )
    return sandbox.Admission(
        granted=granted(context.config, manifest.id, decisions, ceiling),
        limits=limits_for(context.config, section),
        data_dir=data_dir(context.config, context.places, manifest.id),
        settings={name: _setting(value) for name, value in section.settings.items()},
        release=subject.release,
        isolation=isolation_for(context.config, manifest.id, isolation, context.default_isolation),
        bounds=bounds,
        purse=purse if counted else None,
        clock=context.clock,
    )


def refusal(what: str, verdict: "trust.Verdict") -> TrustError:
    """The error for a verdict that is not accepted: its first bad finding."""
    bad = next((finding for finding in verdict.findings if not finding.ok), None)
    detail = f"{bad.rule}: {bad.detail}" if bad else "no finding"
    hint = "agent verify shows every finding; agent trust list shows whom you believe"
    if bad is not None and bad.rule == "key-known":  # nobody is believed yet
        hint = "agent trust add KEY --owner NAME --scope PATTERN"
    return TrustError(f"cannot trust {what}: {detail}", hint=hint)


def _setting(value: object) -> str:
    """A setting as the environment variable that the plugin reads."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def note_foreign_code(context: "Context", found: "sandbox.ForeignCode") -> None:
    """Tell of compiled code in the cache that is not ours, in the audit log; never raise.

    Who can write there runs as the same user, or as root. The code was not used.
    """
    _LOG.warning("compiled code of %s was not used: %s", found.plugin_id, found.reason)
    try:
        context.audit.foreign_code(found)
    except AgentError as error:  # no ledger to chain a line to
        _LOG.warning("cannot write the audit log: %s; going on without", error)
