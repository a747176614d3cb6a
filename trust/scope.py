"""Patterns over whole segments: plugin ids (by dots) and repositories (by slashes).

One rule for both: ``*`` stands alone as a segment. As the last segment it matches one or more
of what follows, anywhere else exactly one; any other segment matches itself. So
``org.example.*`` matches ``org.example.hello`` and ``org.example.tools.hello``, but neither
``org.example`` nor ``org.examples.hello``; ``*`` alone matches every id.
"""

WILDCARD = "*"


def matches_scope(scope: str, plugin_id: str) -> bool:
    """Say whether a key's scope covers a plugin id.

    Args:
        scope: Dotted segments, such as ``org.example.*``.
        plugin_id: The whole id of a plugin.
    """
    return _match(scope.split("."), plugin_id.split("."))


def matches_registry(pattern: str, repository: str) -> bool:
    """Say whether a pattern of ``registries`` covers a repository.

    Args:
        pattern: Segments between slashes, such as ``registry.example.com/*``.
        repository: Host and path, such as ``registry.example.com/plugins/org.example.hello``.
    """
    return _match(pattern.split("/"), repository.split("/"))


def _match(pattern: list[str], segments: list[str]) -> bool:
    if pattern[-1] == WILDCARD:
        if len(segments) < len(pattern):
            return False
    elif len(segments) != len(pattern):
        return False
    # Not strict: a last "*" has already taken every segment beyond its own.
    pairs = zip(pattern, segments, strict=False)
    return all(want in (WILDCARD, got) for want, got in pairs)
