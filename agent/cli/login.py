"""login, logout: credentials for a registry, kept where docker and podman keep them."""

import getpass
import sys

import click

import registry
from agent.cli.app import App, dry_run_flag, format_flag, verb
from agent.errors import UsageError

_MAX_SECRET_BYTES = 16 << 10
# With this user name the secret is an identity token, as credential helpers have it.
_TOKEN_USER = "<token>"  # noqa: S105 - the protocol's word, no secret


@verb(
    name="login",
    examples="agent login registry.example.com\n"
    "agent login registry.example.com -u jane --password-stdin < password.txt",
)
@click.argument("host")
@click.option("-u", "--username", metavar="USER", help="Default: asked for.")
@click.option("--password-stdin", is_flag=True, help="Read the password's line from stdin.")
@dry_run_flag
@format_flag
def login_command(
    app: App, host: str, *, username: str | None, password_stdin: bool, dry_run: bool
) -> None:
    """Check a user name and a password at a registry and keep them.

    They go into $REGISTRY_AUTH_FILE where that is set, else into the docker config, through the
    credential helper that it names. The user name <token> says that the password is an identity
    token.
    """
    context, host = app.context, registry.parse_host(host)
    registries = context.registries
    registries.require_online(host)
    username = _username(username)
    secret = _secret(username, host, from_stdin=password_stdin)
    credential = registry.Credential(username, secret)
    if username == _TOKEN_USER:
        credential = registry.Credential(identity_token=secret)
    registry.check_login(
        host, credential, http=registries.settings_of(host), others=registries.settings_of
    )
    place = registries.credentials.first
    helper = place.helper_of(host)
    kept = f"docker-credential-{helper}" if helper else str(place.path)
    if not dry_run:
        place.store(host, credential, context.files)
    if app.out.as_json:
        app.out.document(host=host, username=username, kept=kept)
        return
    app.out.line(f"{'would keep' if dry_run else 'kept'} the login of {username} at {host}")
    app.out.line(f"  in {kept}")
    if helper is None:
        app.out.message("  as it is, for you alone to read; a credential helper would encrypt it")


@verb(name="logout", examples="agent logout registry.example.com")
@click.argument("host")
@dry_run_flag
@format_flag
def logout_command(app: App, host: str, *, dry_run: bool) -> None:
    """Forget the credentials for a registry, also in its credential helper.

    Those in files of docker's or podman's that login does not write to stay, and are told.
    """
    context, host = app.context, registry.parse_host(host)
    files = context.registries.credentials
    place = files.first
    was = place.find(host, "") is not None
    if not dry_run:
        place.erase(host, context.files)
    # Asked anew: a helper may be named by several of them.
    left = [registry.DockerConfig(file.path) for file in files.files[1:]]
    others = [str(file.path) for file in left if file.find(host, "") is not None]
    if app.out.as_json:
        app.out.document(host=host, was_logged_in=was, still=others)
        return
    word = "would forget" if dry_run else "forgot"
    app.out.line(f"{word} the login at {host}" if was else f"no login at {host} to forget")
    for path in others:
        app.out.message(f"{path} still has one: it is used as long as it is there")


def _username(given: str | None) -> str:
    if given is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "cannot log in: got no user name, expected --username USER",
                hint="agent login --help",
            )
        given = str(click.prompt("Username", err=True))
    # A colon would end it within Basic, a control character within the header.
    if not given or ":" in given or not given.isprintable():
        raise UsageError(f"cannot log in as {given[:80]!r}: expected a name without ':'")
    return given


def _secret(username: str, host: str, *, from_stdin: bool) -> str:
    if from_stdin:
        line = sys.stdin.buffer.readline(_MAX_SECRET_BYTES + 1)
        if len(line) > _MAX_SECRET_BYTES:
            raise UsageError(f"cannot log in: the password is longer than {_MAX_SECRET_BYTES}")
        try:
            secret = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise UsageError("cannot log in: the password is no UTF-8") from None
    elif sys.stdin.isatty():
        secret = getpass.getpass(f"Password of {username} at {host}: ")
    else:
        raise UsageError(
            "cannot log in: stdin is no terminal to ask for the password at",
            hint=f"agent login {host} -u {username} --password-stdin < FILE",
        )
    if not secret:
        raise UsageError("cannot log in: got an empty password")
    return secret
