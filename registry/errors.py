"""What can go wrong between this program and a registry.

One root, ``RegistryError``; a subclass stands for each thing a caller does differently. Errors of
the local disk stay ``OSError``: a full disk is no fault of a registry.
"""

import re
from collections.abc import Iterable

_MAX_TEXT_CHARS = 300
_CUT = "…"
_USERINFO = re.compile(r"(?<=//)[^/@\s]+@")
_AUTHORIZATION = re.compile(r"(?i)\b(basic|bearer)\s+[A-Za-z0-9+/=._~-]{6,}")


def redact(text: str) -> str:
    """Take user names, passwords and tokens out of a text that is going to be shown."""
    return _AUTHORIZATION.sub(r"\1 ***", _USERINFO.sub("***@", text))


def one_line(text: str) -> str:
    """Make a stranger's text fit to be part of a message."""
    shown = text if len(text) <= _MAX_TEXT_CHARS else text[: _MAX_TEXT_CHARS - 1] + _CUT
    return "".join(char if char.isprintable() else " " for char in shown)


class RegistryError(Exception):
    """Something a registry, a layout or a reference to one did not allow; secrets are redacted."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))

    def hide(self, secrets: Iterable[str]) -> None:
        """Take these texts out of the message, and of what it came from, whoever said them."""
        texts = tuple(secrets)
        error: BaseException | None = self
        while error is not None:
            if isinstance(error, RegistryError):
                message = str(error)
                for secret in texts:
                    message = _without(message, secret)
                error.args = (message,)
            error = error.__cause__ or error.__context__


def _without(message: str, secret: str) -> str:
    message = message.replace(secret, "***")
    # A stranger's text may have been cut in the middle of it.
    longest = min(len(secret) - 1, _MAX_TEXT_CHARS)
    begun = (secret[:length] + _CUT for length in range(longest, 0, -1))
    cut = next((part for part in begun if part in message), None)
    return message if cut is None else message.replace(cut, "***" + _CUT)


class ReferenceFormatError(RegistryError):
    """A reference, a registry base or a tag that is not written as the grammar asks."""


class SettingsError(RegistryError):
    """A certificate or key file or a proxy that the settings name can't be used."""


class NotFoundError(RegistryError):
    """The repository, tag, manifest or blob is not there."""


class AuthenticationError(RegistryError):
    """The registry wants credentials, or other ones than it got."""


class NetworkError(RegistryError):
    """The registry could not be reached, was too slow, or failed; worth a retry."""


class ContentError(RegistryError):
    """Bytes that are not what their descriptor, their format or the artifact's shape says."""


class UnsignedError(ContentError):
    """An artifact without a signature: nobody answers for it."""


class TagMovedError(RegistryError):
    """A version's tag names other bytes than the ones it is said to name."""


class BusyError(RegistryError):
    """Another process held a lock, of a layout or a credentials file, all the time we waited."""
