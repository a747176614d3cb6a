"""From believed bytes to a release that serves: compile, seal, probe, activate; and the undo."""

import contextlib
from typing import TYPE_CHECKING

from agent.context import LOCK_TIMEOUT_S, Context
from agent.errors import BusyError, TrustError, UnhealthyError, translated
from agent.model import Generation, PluginSet, Trial
from agent.pipeline.admission import taken_back
from agent.pipeline.steps import Steps
from agent.tree.remembering import refuse_behind, remember

if TYPE_CHECKING:
    from sandbox import Sandbox


class Stage:
    """One verified release on its way into the tree.

    Args:
        context: The installation.
        generation: What it will be.
        plugin: Its files, verified, not yet in the tree.
        steps: Where it shows its place.
    """

    def __init__(
        self,
        context: Context,
        generation: Generation,
        plugin: PluginSet,
        steps: Steps,
    ) -> None:
        self._context = context
        self._generation = generation
        self._plugin = plugin
        self._steps = steps
        self._is_new = False

    def compile(self) -> None:
        """Compile the code into the AOT cache, outside any lock; the probe then loads fast.

        Raises:
            sandbox.SandboxError: It is no module, or imports what no host function provides.
        """
        from sandbox import PluginFiles

        plugin = self._plugin
        files = PluginFiles(
            stem=plugin.stem,
            payload=plugin.payload.read_bytes(),
            signature=plugin.signature,
            manifest=plugin.manifest,
            readme=plugin.readme,
            folder=plugin.payload.parent,
        )
        with contextlib.closing(self._open_sandbox()) as sandbox:
            sandbox.load(files).close()

    def seal_and_probe(self) -> None:
        """Seal the files, then load the sealed bytes and run the health call.

        Raises:
            UnhealthyError: The health function said no, its arguments do not fit, or its call
                ended badly.
            sandbox.SandboxError: A refusal while loading keeps its own code.
        """
        from sandbox import ArgumentError, CallError, CapabilityDenied, read_set

        plugin_id = self._generation.plugin_id
        with self._steps.stepping(plugin_id, "stage"):
            known = self._context.ledger.generation(plugin_id, self._generation.release)
            self._is_new = known is None
            self._context.ledger.add_generation(self._generation)
            folder = self._context.tree.seal(self._generation, self._plugin)
        with (
            self._steps.stepping(plugin_id, "probe"),
            contextlib.closing(self._open_sandbox()) as sandbox,
        ):
            plugin = sandbox.load(
                read_set(
                    folder / f"{self._plugin.stem}.toml",
                    max_module_bytes=self._context.config.sandbox.max_module_bytes,
                )
            )
            try:
                plugin.probe()
            except CapabilityDenied:
                raise
            except (ArgumentError, CallError) as error:
                raise UnhealthyError(
                    f"cannot take {plugin_id} {self._generation.version}: its probe failed, {error}"
                ) from error
            finally:
                plugin.close()

    def refuse_if_taken_back(self) -> None:
        """Ask the trust store once more: a health call takes its time.

        Raises:
            TrustError: Its key was revoked, or the release denied, since it was believed.
            trust.StoreError, UsageError: The trust store can't be used.
        """
        why = taken_back(self._context, self._generation)
        if why is not None:
            generation = self._generation
            raise TrustError(f"cannot take {generation.plugin_id} {generation.version}: {why}")

    def activate(self, *, channel: str | None) -> Trial:
        """Make it serve; see ``Activation.activate``."""
        with self._steps.stepping(self._generation.plugin_id, "activate"):
            return self._context.activation.activate(
                self._generation,
                probation_s=self._context.config.update.probation,
                channel=channel,
            )

    def _open_sandbox(self) -> "Sandbox":
        return self._context.open_sandbox(repository=self._generation.repository)

    def fail(self, error: Exception) -> None:
        """Take the staging back, and reject a release that is unhealthy.

        Not one to go back to. Disk, network and busy never count against a release.

        Raises:
            LedgerError: An older copy of the ledger was put back meanwhile: nothing is written.
        """
        context, generation = self._context, self._generation
        cause, now = translated(error), context.clock()
        if isinstance(cause, UnhealthyError):
            if generation.release in context.activation.in_use(generation.plugin_id):
                return  # it was good here, and a trial may have to go back to it
            refuse_behind(context.ledger, context.tree, generation.plugin_id)
            context.ledger.reject(
                generation.plugin_id,
                generation.release,
                generation.version,
                reason=cause.message,
                at=now,
            )
        if not self._is_new:
            return  # nothing was sealed yet, or it was kept from before
        # Where another agent is at the tree, what was sealed stays: inert, and pruned later.
        with contextlib.suppress(BusyError), context.tree.lock(timeout_s=LOCK_TIMEOUT_S):
            if generation.release not in context.activation.in_use(generation.plugin_id):
                context.tree.unseal(generation)
                context.ledger.forget_generation(generation.plugin_id, generation.release)
            remember(context.ledger, context.tree, generation.plugin_id)
        self._forget_compiled()

    def _forget_compiled(self) -> None:
        """No sealed release has this code any more, unless another one has the same."""
        ledger, payload = self._context.ledger, self._generation.payload_sha256
        sealed = {g.payload_sha256 for i in ledger.plugin_ids() for g in ledger.generations(i)}
        if payload in sealed:
            return
        # What can't be removed now is removed by the next prune.
        with contextlib.suppress(OSError), contextlib.closing(self._open_sandbox()) as sandbox:
            sandbox.forget(payload)
