"""What is written to the audit log, and when.

What a person asked for is written before it is done, and not done where it can't be written.
What the agent does by itself to a release that already serves (ending a trial, going back) and
what it refuses is written too, but never kept from happening: that is told once.
"""

import contextlib
import hashlib
import json
import logging
import os
import pwd
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.audit.log import AuditLog, Entry
from agent.errors import AgentError, PolicyError, in_words
from agent.ledger.ledger import Ledger
from agent.model import Generation, Kind, Outcome
from agent.reading import read_start
from agent.tree.generations import Tree

if TYPE_CHECKING:
    import sandbox
    import trust

_LOG = logging.getLogger("stack_composer.audit")
_MAX_SMALL_BYTES = 64 * 1024
_MAX_FINDINGS = 32


@dataclass(frozen=True, slots=True)
class Judged:
    """What trust said of a release."""

    subject: "trust.Subject"
    sig_sha256: str | None
    key_id: str | None
    findings: tuple[dict[str, object], ...]

    @classmethod
    def of(
        cls, subject: "trust.Subject", evidence: "trust.Evidence", verdict: "trust.Verdict"
    ) -> "Judged":
        """What is kept of a verdict."""
        signature = evidence.signature
        return cls(
            subject,
            None if signature is None else hashlib.sha256(signature).hexdigest(),
            verdict.key_id,
            tuple(
                {"rule": finding.rule, "ok": finding.ok, "detail": finding.detail}
                for finding in verdict.findings[:_MAX_FINDINGS]
            ),
        )


class Auditor:
    """Writes what one installation decides.

    Args:
        log: Where to.
        ledger: Remembers which refusals were written already.
        tree: Holds the sealed files that lines name by hash.
        clock: Seconds since the epoch.
        by: The verb that acts, or ``host``.
        judged: The latest verdict on each plugin: the lines on that release tell its findings.
        granted_to: What a release is granted of what it requests; None where that cannot be
            said.
    """

    def __init__(
        self,
        log: AuditLog,
        ledger: Ledger,
        tree: Tree,
        clock: Callable[[], float],
        *,
        by: str,
        judged: Mapping[str, Judged],
        granted_to: Callable[[Generation], tuple[str, ...] | None],
    ) -> None:
        self.log = log
        self._ledger = ledger
        self._tree = tree
        self._clock = clock
        self._by = by
        self._granted_to = granted_to
        self._judged = judged
        self._told_unwritable = False

    # -- releases

    def release(self, outcome: str, generation: Generation, reason: str, *, required: bool) -> None:
        """Write what becomes of a sealed release.

        Args:
            outcome: activating, trial, committed, rolled_back, abandoned, pruned, forgotten,
                crash_loop.
            generation: The release.
            reason: Why, for people.
            required: Raise where it can't be written; else tell it once, and go on.

        Raises:
            OSError, sqlite3.Error: It is required, and the disk or the ledger failed.
        """
        with self._told_once(required=required):
            judged = self._judged.get(generation.plugin_id)
            if judged is not None and judged.subject.release != generation.release:
                judged = None
            folder, stem = self._tree.folder(generation), generation.stem
            entry = self._entry(
                outcome,
                reason,
                plugin=generation.plugin_id,
                version=generation.version,
                release=generation.release,
                digest=generation.digest,
                wasm_sha256=generation.payload_sha256,
                sig_sha256=_sha256_of(folder / f"{stem}.sig"),
                toml_sha256=_sha256_of(folder / f"{stem}.toml"),
                key_id=generation.key_id,
                capabilities=self._granted_to(generation),
                findings=judged.findings if judged else (),
            )
            self.log.append(entry)
            self._ledger.forget_audited_refusals(generation.plugin_id)

    def stray(self, outcome: str, reason: str, *, plugin: str, required: bool = False) -> None:
        """Like ``release``, of a plugin or something in its folder that is no known release."""
        with self._told_once(required=required):
            self.log.append(self._entry(outcome, reason, plugin=plugin))

    def outcome(self, outcome: Outcome) -> None:
        """Write how a run ended, where nothing went live: staged, refused, failed.

        What went live is written where it does (``release``). The same refusal or failure is
        written once, until the plugin has changed.
        """
        cause = outcome.error
        if outcome.kind is Kind.STAGED:
            generation = self._ledger.generation(outcome.plugin_id, str(outcome.release))
            if generation is not None:
                self.release("staged", generation, outcome.detail, required=False)
        elif outcome.kind in (Kind.REFUSED, Kind.FAILED) and cause is not None:
            self.refused(
                outcome.plugin_id,
                outcome.after,
                cause,
                kind=outcome.kind,
                digest=outcome.digest,
            )

    def refused(
        self,
        plugin_id: str,
        version: str | None,
        cause: AgentError,
        *,
        kind: Kind = Kind.REFUSED,
        digest: str | None = None,
    ) -> None:
        """Write that a candidate was refused, or that a run failed; once, and never raise."""
        rule = cause.reason if isinstance(cause, PolicyError) else cause.code
        said = json.dumps([kind.value, rule, cause.message])
        with self._told_once(required=False):
            known = version or ""
            if self._ledger.audited_refusal(plugin_id, known) == said:
                return
            entry = self._entry(
                kind.value, f"{rule}: {cause.message}", plugin=plugin_id, version=version
            )
            judged = self._judged.get(plugin_id)
            if judged is not None and judged.subject.version == version:
                entry = replace(
                    entry,
                    release=judged.subject.release,
                    wasm_sha256=judged.subject.payload_sha256,
                    sig_sha256=judged.sig_sha256,
                    toml_sha256=judged.subject.manifest_sha256,
                    key_id=judged.key_id,
                    findings=judged.findings,
                )
            self.log.append(replace(entry, digest=digest))
            self._ledger.remember_audited_refusal(plugin_id, known, said)

    def foreign_code(self, found: "sandbox.ForeignCode") -> None:
        """Write that compiled code in the cache was not the cache's own; never raise."""
        with self._told_once(required=False):
            self.log.append(
                self._entry(
                    "foreign",
                    found.reason,
                    plugin=found.plugin_id,
                    version=found.version,
                    release=found.release or None,
                )
            )

    def crash_loop(self, plugin_id: str, release: str, reason: str) -> None:
        """Write that this program calls a release no more; never raise."""
        generation = self._ledger.generation(plugin_id, release)
        if generation is not None:
            self.release("crash_loop", generation, reason, required=False)
            return
        with self._told_once(required=False):  # it runs from files that are not installed
            self.log.append(
                self._entry("crash_loop", reason, plugin=plugin_id, release=release or None)
            )

    # -- what an operator decides

    @contextlib.contextmanager
    def deciding(
        self,
        outcome: str,
        reason: str,
        *,
        plugin: str | None = None,
        key_id: str | None = None,
        capability: str | None = None,
    ) -> Iterator[None]:
        """Write an operator's decision before the block carries it out.

        Args:
            outcome: granted, denied, trusted, revoked.
            reason: What exactly, for people.
            plugin: The plugin it is about.
            key_id: The key it is about.
            capability: The capability it is about.

        Raises:
            OSError, sqlite3.Error: It can't be written: the block is not entered.
        """
        capabilities = None if capability is None else (capability,)
        entry = self._entry(
            outcome, reason, plugin=plugin, key_id=key_id, capabilities=capabilities
        )
        self.log.append(entry)
        try:
            yield
        except Exception as error:
            with self._told_once(required=False):
                self.log.append(
                    replace(entry, outcome="failed", reason=f"{outcome}, {reason}: {error}")
                )
            raise

    def rejoin(self) -> str | None:
        """Take the lines that no head of the ledger's covers; see ``AuditLog.rejoin``."""
        return self.log.rejoin(self._entry("rejoined", ""))

    # -- helpers

    def _entry(self, outcome: str, reason: str, **fields: Any) -> Entry:  # noqa: ANN401 - those of Entry
        uid = os.geteuid()
        return Entry(self._clock(), uid, _user_name(uid), self._by, outcome, reason, **fields)

    @contextlib.contextmanager
    def _told_once(self, *, required: bool) -> Iterator[None]:
        """Let nothing be kept from happening by a log that can't be written, unless required."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if required:
                raise
            if not self._told_unwritable:
                self._told_unwritable = True
                _LOG.warning("cannot write the audit log: %s; going on without", in_words(error))


def _user_name(uid: int) -> str | None:
    """The name of a user; None where the system knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _sha256_of(path: Path) -> str | None:
    """The SHA-256 of a small sealed file; None where it is not there."""
    try:
        return hashlib.sha256(read_start(path, _MAX_SMALL_BYTES)).hexdigest()
    except OSError:
        return None
