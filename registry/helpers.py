"""Credential helpers: programs that keep secrets for docker (``docker-credential-NAME``).

The protocol of docker-credential-helpers: an action as the argument, the rest on stdin, JSON on
stdout. A helper that hangs is killed with all that it started, and what it prints is bounded.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import time
from dataclasses import dataclass
from typing import IO

from registry.auth import Credential
from registry.errors import AuthenticationError, ContentError
from registry.strict_json import parse_object

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_ANSWER_BYTES = 64 << 10
_TIMEOUT_S = 30.0
_NOT_THERE = b"credentials not found"
# With this user name the secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105 - the protocol's word, no secret


@dataclass(frozen=True, slots=True)
class Helper:
    """One helper.

    Attributes:
        name: What follows ``docker-credential-``.
        timeout_s: How long it may take.
    """

    name: str
    timeout_s: float = _TIMEOUT_S

    def get(self, server: str) -> Credential | None:
        """Ask for the credential of a registry; ``None``: it has none.

        Raises:
            AuthenticationError: It can't be run, hangs, fails or answers nonsense.
        """
        code, answer = self._run("get", server.encode())
        if code:
            if _NOT_THERE in answer:
                return None
            raise self._error(server, f"it ended with {code}")
        try:
            document = parse_object(answer, "its answer")
        except ContentError as error:
            raise self._error(server, "it printed something else than JSON") from error
        username, secret = document.get("Username"), document.get("Secret")
        if not isinstance(username, str) or not isinstance(secret, str):
            raise self._error(server, "it printed no Username and Secret")
        if username == _TOKEN_USER:
            return Credential(identity_token=secret)
        return Credential(username, secret)

    def store(self, server: str, credential: Credential) -> None:
        """Have it keep a credential.

        Raises:
            AuthenticationError: It can't be run, hangs or fails.
        """
        token = credential.identity_token
        entry = {
            "ServerURL": server,
            "Username": _TOKEN_USER if token else credential.username,
            "Secret": token or credential.password,
        }
        code, _ = self._run("store", json.dumps(entry).encode())
        if code:
            raise self._error(server, f"it ended with {code}")

    def erase(self, server: str) -> None:
        """Have it forget a credential; one that it doesn't have is no error.

        Raises:
            AuthenticationError: It can't be run, hangs or fails.
        """
        code, answer = self._run("erase", server.encode())
        if code and _NOT_THERE not in answer:
            raise self._error(server, f"it ended with {code}")

    def _run(self, action: str, given: bytes) -> tuple[int, bytes]:
        if not _NAME.fullmatch(self.name):
            message = f"cannot use credential helper {self.name[:80]!r}: expected a bare name"
            raise AuthenticationError(message)
        # Hardly a run needs one.
        import subprocess

        try:
            process = subprocess.Popen(
                [f"docker-credential-{self.name}", action],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise self._error("", f"{error.strerror}") from error
        with process:
            try:
                # A pipe takes 64 KiB at once; what we have to say is far less.
                with contextlib.suppress(BrokenPipeError), _open(process.stdin) as stdin:
                    stdin.write(given)
                answer = self._read(_open(process.stdout))
                return process.wait(timeout=self.timeout_s), answer
            except BaseException as error:
                # With all that it started; after a good end, what it left running is its own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise self._error("", f"no end after {self.timeout_s:g} s") from error
                raise

    def _read(self, stdout: IO[bytes]) -> bytes:
        """Read until the end, the limit or the deadline."""
        answer = bytearray()
        until_s = time.monotonic() + self.timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while len(answer) <= _MAX_ANSWER_BYTES:
                if not selector.select(max(0.0, until_s - time.monotonic())):
                    raise self._error("", f"no answer within {self.timeout_s:g} s")
                piece = os.read(stdout.fileno(), _MAX_ANSWER_BYTES)
                if not piece:
                    return bytes(answer)
                answer += piece
        raise self._error("", f"it printed more than {_MAX_ANSWER_BYTES} bytes")

    def _error(self, server: str, why: str) -> AuthenticationError:
        of = f" for {server}" if server else ""
        return AuthenticationError(
            f"cannot get credentials{of} from docker-credential-{self.name}: {why}; check "
            "credsStore and credHelpers in the docker config"
        )


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    """A pipe that was asked for."""
    if stream is None:
        raise AssertionError("Popen was called with PIPE")
    return stream
