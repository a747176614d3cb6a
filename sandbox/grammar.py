"""The words a manifest may use, as patterns (contract section 2). Match with ``fullmatch``."""

import re

_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"

PLUGIN_ID = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")

_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)

STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

SIGNATURE_FILE = re.compile(rf"file:(?P<file>(?P<stem>{STEM.pattern})\.sig)")

CAPABILITY = re.compile(r"[a-z][a-z0-9_]{0,63}")

EXPORT_NAME = re.compile(r"[!-~]{1,128}")

SETTING_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")

HOST_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[1-9][0-9]{0,4})?")
