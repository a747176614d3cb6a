"""What is left of a token: it expires, and its calls are counted, here in the host."""

import threading
import time
from collections.abc import Callable

from sandbox.errors import AllowanceSpentError
from sandbox.token import Token


class Allowance:
    """Counts the calls of one load against its token.

    Args:
        token: What is allowed.
        clock: Seconds since the epoch.
    """

    def __init__(self, token: Token, clock: Callable[[], float] = time.time) -> None:
        self._token = token
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = 0

    def spend(self) -> None:
        """Begin one call.

        Raises:
            AllowanceSpentError: The token has expired, or its calls are used up.
        """
        token = self._token
        if token.expires_s is not None and self._clock() >= token.expires_s:
            raise self._refused("what it was granted has expired")
        if token.max_calls is None:
            return
        with self._lock:
            if self._begun >= token.max_calls:
                raise self._refused(f"its {token.max_calls} calls are used up")
            self._begun += 1

    def _refused(self, reason: str) -> AllowanceSpentError:
        plugin_id = self._token.plugin_id
        return AllowanceSpentError(
            f"cannot call {plugin_id}: {reason}; see: agent grants {plugin_id}",
            plugin_id=plugin_id,
        )
