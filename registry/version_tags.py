"""Versions as OCI tags and back: a tag has no ``+``, so it is written ``_``. Pure. Contract §4."""

import re

from registry.errors import ReferenceFormatError

_MAX_TAG_CHARS = 128
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(?:\.[a-z]+)?")


def version_to_tag(version: str) -> str:
    """Write a version as an OCI tag.

    Raises:
        ReferenceFormatError: It is not SemVer 2.0.0, or longer than a tag may be (128).
    """
    if not _is_version(version):
        message = f"cannot use version {version[:140]!r}: expected SemVer, such as 1.2.3"
        raise ReferenceFormatError(message)
    return version.replace("+", "_")


def tag_to_version(tag: str) -> str | None:
    """Return the version that a tag names, or ``None`` if it names a channel.

    SemVer knows no ``_``, so the first one can only be the ``+``.
    """
    version = tag.replace("_", "+", 1)
    return version if is_tag(tag) and _is_version(version) else None


def is_tag(text: str) -> bool:
    """Say whether a text is an OCI tag (distribution specification, "Pulling manifests")."""
    return _TAG.fullmatch(text) is not None


def is_release_tag(text: str) -> bool:
    """Say whether a text is a tag that can name a release: no fallback for referrers is one."""
    return is_tag(text) and not _REFERRERS.fullmatch(text)


def parse_tag(text: str) -> str:
    """Return the OCI tag for what a user wrote: a version in either spelling, or a channel.

    Raises:
        ReferenceFormatError: It is neither, or where the referrers of a manifest are listed.
    """
    tag = text.replace("+", "_") if _is_version(text) else text
    if _REFERRERS.fullmatch(tag):
        message = f"cannot use tag {tag}: it is for what refers to a manifest, and for no release"
        raise ReferenceFormatError(message)
    if not is_tag(tag):
        message = (
            f"cannot use tag {text[:140]!r}: expected a version or at most {_MAX_TAG_CHARS} "
            "letters, digits and . _ -"
        )
        raise ReferenceFormatError(message)
    return tag


def _is_version(text: str) -> bool:
    return len(text) <= _MAX_TAG_CHARS and _VERSION.fullmatch(text) is not None
