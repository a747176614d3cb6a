"""One service for one state (contract §7, "Locks")."""

import contextlib
import errno
import logging
from collections.abc import Iterator

from agent.context import Context
from agent.errors import BusyError, in_words
from agent.settings.owner import require_own

_LOG = logging.getLogger("stack_composer.service")


@contextlib.contextmanager
def service_lock(context: Context) -> Iterator[None]:
    """Be the only service of a state for the length of the block.

    Raises:
        BusyError: Another one runs.
        OSError: The lock can't be made, on a disk that can be written.
        UsageError: The state is not for root to change; see ``require_own``.
    """
    require_own(context.places.state, is_system=context.options.system)
    path = context.places.state / "service.lock"
    with contextlib.ExitStack() as held:
        try:
            context.files.make_folder(path.parent, mode=0o700)
            held.enter_context(context.files.lock(path, timeout_s=0))
        except TimeoutError:
            raise BusyError(
                f"cannot start: another service holds {path}", hint="agent status"
            ) from None
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC):
                raise
            # Nobody can write there; whoever serves on does so without changing anything.
            _LOG.warning("cannot take %s: %s; going on without", path, in_words(error))
        yield
