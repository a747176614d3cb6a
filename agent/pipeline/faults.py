"""Whose fault a refusal is: the candidate's own, or this host's, its disk's or its network's.

What is the candidate's own blocks nobody: the next lower one is tried in the same run.
"""

import registry
from agent.errors import FormatError, PolicyError, TrustError, UnhealthyError, translated
from sandbox.errors import MissingExport

_ITS_OWN = ("incompatible", "moved-tag", "capability")


def is_lasting(error: Exception) -> bool:
    """Whether the candidate is refused under the terms of the day, and remembered so."""
    cause = translated(error)
    if isinstance(cause, PolicyError):
        return cause.reason in _ITS_OWN
    return isinstance(error, MissingExport) or isinstance(cause, FormatError | TrustError)


def blocks_nobody(error: Exception) -> bool:
    """Whether a lower candidate may be tried instead.

    Beside what is lasting: an unhealthy release, which is rejected; what a listing names and
    the registry does not have; a stem that is another's.
    """
    cause = translated(error)
    if isinstance(cause, PolicyError) and cause.reason == "stem-taken":
        return True
    is_gone = isinstance(error, registry.NotFoundError)
    return is_gone or isinstance(cause, UnhealthyError) or is_lasting(error)
