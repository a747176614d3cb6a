"""Drop-ins: plugins that somebody copied into the plugin folder take the pipeline like any other.

The source is files at hand instead of a repository; from *verify* on all is the same. What is
refused stays untouched, is said and written down once, and is judged again when the files or
the terms have changed, or after a day.
"""

import functools
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import FormatError, LedgerError, PolicyError, TrustError, of_code, translated
from agent.model import Asked, Generation, Kind, Outcome, PluginSet
from agent.pipeline.admission import refusal
from agent.pipeline.candidate import Candidate
from agent.pipeline.outcomes import outcome_of
from agent.pipeline.resealing import take_again
from agent.pipeline.runs import run
from agent.pipeline.settling import settle
from agent.pipeline.steps import Progress, Steps
from agent.pipeline.subjects import subject_of
from agent.pipeline.taking import Taking, incoming
from agent.pipeline.terms import refusal_terms
from agent.telemetry import Telemetry
from agent.tree.flat import Examined, FlatSets, Identity, Standing
from agent.tree.flat_files import flat_set
from agent.tree.flat_model import FlatNote, FlatSet
from agent.tree.remembering import behind
from sandbox.discovery import PluginFiles, read_set
from sandbox.errors import SandboxError

_REFUSED_FOR_S = 86_400
"""A refused set is judged again after a day: keys have dates."""


class DropIns:
    """Looks for drop-ins, and takes them.

    Args:
        context: The installation.
        telemetry: Where spans go.
        progress: How the caller shows what goes on.
        patience_s: How long a host waits for the tree; None = as long as a command does.
    """

    def __init__(
        self,
        context: Context,
        telemetry: Telemetry,
        progress: Progress | None = None,
        *,
        patience_s: float | None = None,
    ) -> None:
        self._context = context
        self._steps = Steps(telemetry, progress or Progress.silent())
        self._patience_s = patience_s
        self._lock_timeout_s = LOCK_TIMEOUT_S if patience_s is None else patience_s
        self._taking = Taking(context, self._steps, lock_timeout_s=self._lock_timeout_s)
        self._flats = FlatSets(context.activation, self._identify)

    def adopt(
        self, ids: Collection[str] | None = None, *, stem: str | None = None
    ) -> tuple[Outcome, ...]:
        """Take what was put there, as far as rules, trust and health let it.

        Args:
            ids: Only drop-ins of these plugins; None = all.
            stem: Only the set of this stem; None = all.

        Returns:
            What was taken, or refused for the first time; nothing where the tree is not this
            ledger's, which takes its copies for somebody else's, and nothing of a plugin that
            the tree knows more of.

        Raises:
            BusyError: Another process held the tree.
            OSError, sqlite3.Error: The disk or the ledger failed; what is at fault with one set
                keeps no other from being looked at.
        """
        outcomes: list[Outcome] = []
        for flat in self._changed():
            if stem not in (None, flat.stem) or self._note(flat) is not None:
                continue
            with self._context.tree.lock(timeout_s=self._lock_timeout_s):
                try:
                    examined = self._flats.examine(flat.stem)
                except LedgerError:
                    continue  # an older ledger was put back: told where its plugin has its turn
                except OSError as error:
                    outcomes += self._not_seen(flat, error, ids)
                    continue
            if examined is not None and (ids is None or examined.plugin_id in ids):
                outcomes += self._adopt(examined)
        return tuple(outcomes)

    def foresee(self, ids: Collection[str] | None = None) -> tuple[Outcome, ...]:
        """What ``adopt`` would do, what it refused before included; nothing is done."""
        context, outcomes = self._context, []
        for flat in self._changed():
            note = self._note(flat)
            if note is not None and (ids is None or note.plugin_id in ids):
                outcomes.append(_outcome_of(note))
            if note is not None:
                continue
            standing, examined = self._flats.standing(flat)
            is_due = bool(examined.owner and context.activation.is_unfinished(examined.owner))
            # Then our own copies look like somebody else's.
            is_due |= behind(context.ledger, context.tree, examined.plugin_id) is not None
            is_wanted = ids is None or examined.plugin_id in ids
            if standing is Standing.FOREIGN and is_wanted and not is_due:
                work = functools.partial(self._take, examined, Asked(dry_run=True))
                outcomes.append(self._run(examined.plugin_id, work, decides=False))
        return tuple(outcomes)

    def _not_seen(
        self, flat: FlatSet, error: OSError, ids: Collection[str] | None
    ) -> tuple[Outcome, ...]:
        """What is told of a set that can't be looked at, or be put right."""
        plugin_id, cause = (
            self._context.ledger.stem_owner(flat.stem) or flat.stem,
            translated(error),
        )
        if cause is None or (ids is not None and plugin_id not in ids):
            return ()
        return (Outcome(plugin_id, Kind.FAILED, "check", cause.message, error=cause),)

    def _changed(self) -> tuple[FlatSet, ...]:
        return () if self._context.stranger() is not None else self._flats.changed()

    # -- one set

    def _run(self, plugin_id: str, work: Callable[[], Outcome], *, decides: bool) -> Outcome:
        live = self._context.activation.live(plugin_id)
        return run(self._context, self._steps, plugin_id, live, work, decides=decides)

    def _adopt(self, examined: Examined) -> tuple[Outcome, ...]:
        """Take it; nothing is told of a refusal where other files lie there by now."""
        work = functools.partial(self._take, examined, Asked())
        outcome = self._run(examined.plugin_id, work, decides=True)
        is_vetoed = isinstance(outcome.error, PolicyError) and outcome.error.reason == "vetoed"
        if outcome.kind in (Kind.REFUSED, Kind.PENDING) and not is_vetoed:
            if flat_set(self._context.tree.root, examined.flat.stem).stamp != examined.flat.stamp:
                return ()  # they are looked at again
            self._remember(examined.flat, outcome)
        return (outcome,)

    def _take(self, examined: Examined, asked: Asked) -> Outcome:
        context, plugin_id = self._context, examined.plugin_id
        files = self._read(examined.flat)
        if not asked.dry_run:
            settle(context, self._steps.telemetry, plugin_id, timeout_s=self._patience_s)
        with self._steps.stepping(plugin_id, "verify"):
            candidate = self._believed(files)
        serving = context.activation.live(plugin_id)
        if serving is not None and serving.release == candidate.release:
            return self._take_again(candidate, serving, files, asked)
        installed = context.ledger.installed(plugin_id)
        outcome = self._taking.take(
            candidate,
            asked,
            serving,
            functools.partial(self._fetch, files),
            channel=installed.channel if installed else None,
        )
        return replace(outcome, detail=f"{outcome.detail}; put there as files")

    def _take_again(
        self, candidate: Candidate, serving: Generation, files: PluginFiles, asked: Asked
    ) -> Outcome:
        """The same release: what was put there is another signature, or mends what is broken."""
        if asked.dry_run:
            return outcome_of(candidate, Kind.PLANNED, "plan", "would be sealed anew")
        with incoming(self._context) as folder:
            return take_again(
                self._context,
                candidate,
                serving,
                self._fetch(files, folder),
                lock_timeout_s=self._lock_timeout_s,
            )

    def _read(self, flat: FlatSet) -> PluginFiles:
        """Read a set.

        Raises:
            FormatError: A file is missing, or none that may be read.
            TrustError: The signature is missing.
            sandbox.SandboxError: A file is malformed.
        """
        self._steps.now = "fetch"
        missing = sorted({"wasm", "toml"} - flat.parts)
        where = self._context.tree.root / flat.stem
        if missing:
            raise FormatError(
                f"cannot take {where}.*: {where.name}.{missing[0]} is missing, or no regular file",
                hint="copy all three files",
            )
        files = read_set(
            Path(f"{where}.toml"),
            max_module_bytes=self._context.config.sandbox.max_module_bytes,
        )
        if files.stem != flat.stem:
            raise FormatError(
                f"cannot take {where}.toml: it names {files.stem}.sig as its signature, expected "
                f"{flat.stem}.sig",
                hint=f"call the files {files.stem}.*",
            )
        if files.signature is None:
            raise TrustError(
                f"cannot take {where}.*: there is no signature",
                hint=f"copy {flat.stem}.sig beside it",
            )
        return files

    def _believed(self, files: PluginFiles) -> Candidate:
        """Verify a set against the trust store.

        Raises:
            TrustError: It is refused; the message names the finding.
        """
        import trust

        manifest = self._context.parse_manifest(files.manifest, f"{files.stem}.toml")
        self._steps.version = manifest.version
        subject = subject_of(manifest, files.manifest, files.payload)
        verdict = self._context.judge(subject, trust.Evidence(files.signature, files.payload))
        if not verdict.accepted:
            raise refusal(f"{manifest.id} {manifest.version}", verdict)
        return Candidate(
            manifest=manifest,
            manifest_bytes=files.manifest,
            signature=files.signature or b"",
            release=subject.release,
            payload_sha256=subject.payload_sha256,
            key_id=verdict.key_id or "",
        )

    def _fetch(self, files: PluginFiles, folder: Path) -> PluginSet:
        """The files as they were read and believed, whatever becomes of those that lie there."""
        payload = folder / f"{files.stem}.wasm"
        self._context.files.write_atomic(payload, files.payload)
        return PluginSet(files.stem, payload, files.signature, files.manifest)

    def _identify(self, flat: FlatSet) -> Identity | None:
        if not flat.parts >= {"wasm", "toml"}:
            return None
        path = self._context.tree.root / f"{flat.stem}.toml"
        longest = self._context.config.sandbox.max_module_bytes
        try:
            files = read_set(path, max_module_bytes=longest)
            manifest = self._context.parse_manifest(files.manifest, path.name)
        except SandboxError:
            return None
        release = subject_of(manifest, files.manifest, files.payload).release
        return Identity(manifest.id, release)

    # -- what was not taken

    def _note(self, flat: FlatSet) -> FlatNote | None:
        """What was said of these very files under these terms, if that still holds."""
        note = self._context.ledger.flat_notes().get(flat.stem)
        if note is None or note.terms is None or note.stamp != flat.stamp:
            return None
        is_fresh = self._context.clock() - note.at < _REFUSED_FOR_S
        terms = refusal_terms(self._context, note.plugin_id)
        return note if is_fresh and note.terms == terms else None

    def _remember(self, flat: FlatSet, outcome: Outcome) -> None:
        context, cause = self._context, outcome.error
        if cause is None:
            return
        context.ledger.note_flat_set(
            FlatNote(
                flat.stem,
                outcome.plugin_id,
                flat.stamp,
                context.clock(),
                terms=refusal_terms(self._context, outcome.plugin_id),
                version=outcome.after,
                outcome=outcome.kind.value,
                code=cause.code,
                reason=cause.reason if isinstance(cause, PolicyError) else "",
                detail=cause.message,
                hint=cause.hint,
            )
        )


def _outcome_of(note: FlatNote) -> Outcome:
    cause = of_code(note.code, note.detail, reason=note.reason, hint=note.hint)
    return Outcome(
        note.plugin_id, Kind(note.outcome), "plan", note.detail, after=note.version, error=cause
    )
