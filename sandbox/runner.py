"""What runs a plugin's calls: one interface, in this process or in a child."""

from dataclasses import dataclass
from typing import Protocol

from sandbox.arguments import Lowered
from sandbox.result import CallResult
from sandbox.signature import Signature


@dataclass(frozen=True, slots=True)
class Request:
    """One call, its arguments checked.

    Attributes:
        func: The function, for messages where it is none.
        signature: What it takes and gives; None = only instantiate.
        args: One value per parameter, text as bytes.
        throw_away: Run in an instance of its own, whatever the manifest says of instances.
    """

    func: str
    signature: Signature | None
    args: tuple[Lowered, ...] = ()
    throw_away: bool = False


class Runner(Protocol):
    """Runs the calls of one plugin, from any thread, several at once."""

    def run(self, request: Request) -> CallResult:
        """Run one call.

        Raises:
            CallError: It did not succeed.
            SandboxError: It could not begin.
        """

    def close(self) -> None:
        """Let go of what no call uses; what runs is let go of at its end."""
