"""Patterns match whole segments, and a star never reaches into a name."""

import pytest

from trust import matches_registry, matches_scope


@pytest.mark.parametrize(
    ("scope", "plugin_id"),
    [
        ("*", "org.example"),
        ("*", "org.example.tools.hello"),
        ("org.example.hello", "org.example.hello"),
        ("org.example.*", "org.example.hello"),
        ("org.example.*", "org.example.tools.hello"),
        ("org.*.hello", "org.example.hello"),
        ("*.example.hello", "org.example.hello"),
        ("org.*.*", "org.example.hello"),
        ("org.*.*", "org.example.tools.hello"),
    ],
)
def test_a_scope_covers(scope: str, plugin_id: str) -> None:
    """A last star takes one segment or more, any other exactly one."""
    assert matches_scope(scope, plugin_id)


@pytest.mark.parametrize(
    ("scope", "plugin_id"),
    [
        ("org.example.*", "org.example"),
        ("org.example.*", "org.examples.hello"),
        ("org.example.*", "org.example-evil.hello"),
        ("org.example.*", "com.org.example.hello"),
        ("org.example", "org.example.hello"),
        ("org.example.hello", "org.example"),
        ("org.example.hello", "org.example.hello2"),
        ("org.*.hello", "org.a.b.hello"),
        ("org.*.hello", "org.hello"),
        ("org.*.*", "org.example"),
        ("org.ex*", "org.example"),
        ("org.?xample", "org.example"),
        ("org.[a-z]xample", "org.example"),
        ("org.example.hello", "orgxexamplexhello"),
    ],
)
def test_a_scope_does_not_cover(scope: str, plugin_id: str) -> None:
    """No prefix, no part of a segment, no other wildcard."""
    assert not matches_scope(scope, plugin_id)


def test_registries_are_matched_by_the_same_rule_over_slashes() -> None:
    """A host is a segment: a longer name that starts like it is another host."""
    repository = "registry.example.com/plugins/org.example.hello"
    assert matches_registry("registry.example.com/*", repository)
    assert matches_registry("registry.example.com/plugins/*", repository)
    assert matches_registry(repository, repository)
    assert not matches_registry("registry.example.com", repository)
    assert not matches_registry("registry.example.com/plugins", repository)
    assert not matches_registry("registry.example.com/*", "registry.example.com.evil.org/p/x")
    assert not matches_registry("registry.example.com/*", "registry.example.com:5000/p/x")
