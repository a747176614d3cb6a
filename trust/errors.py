"""What the trust room raises: malformed input only.

A release that is not trusted is no error but a :class:`~trust.verify.Verdict` that says why.
"""


class TrustError(Exception):
    """Input that this room cannot read, or a subject that cannot be signed."""


class KeyFormatError(TrustError):
    """A key file or text that cannot be read as an Ed25519 key."""


class WeakKeyError(KeyFormatError):
    """A public key under which signatures can be made without a private key."""


class StoreError(TrustError):
    """``trusted_keys.toml`` is broken or unsafe; the message names the file and the key."""


class StoreBusyError(StoreError):
    """Another process is editing the trust store."""


class SignatureFormatError(TrustError):
    """Bytes that are not a ``.sig`` file."""
