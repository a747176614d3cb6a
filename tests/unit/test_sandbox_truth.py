"""What a plugin requests against what it imports: told, and no reason to refuse it."""

import logging

import pytest

from sandbox.capabilities import WASI_MODULE
from sandbox.shape import Import
from sandbox.truth import notes
from support.sandbox import ECHO, host_call, plugin_files, sandbox

SEARCH = host_call("host_retrieval_search", "(param i32 i32 i32)", *["(i32.const 0)" * 3])


def test_requests_without_an_import_are_told() -> None:
    """A capability that the code can't use; ``log`` needs no request, and none is missed."""
    assert notes([], ["log", "llm"], {}) == ("it requests 'llm' and imports nothing of it",)
    assert notes([Import("env", "host_llm_next", None)], ["llm"], {}) == ()
    assert notes([], ["lookup"], {}) == ()
    assert notes([], ["lookup"], {"find": "lookup"}) == (
        "it requests 'lookup' and imports nothing of it",
    )


def test_imports_without_a_request_are_told() -> None:
    """By their names, as their calls will trap; an application's functions too."""
    fetch = Import("stack_composer_v1", "host_fetch", None)
    (note,) = notes([fetch], [], {})
    assert note == (
        "it imports stack_composer_v1.host_fetch and does not request 'network': a call of it traps"
    )
    assert notes([Import("env", "host_log", None)], [], {}) == ()
    (note,) = notes([Import("env", "find", None)], [], {"find": "lookup"})
    assert "'lookup'" in note


def test_files_are_wasi_imports() -> None:
    """``fs_read`` without ``path_open`` reads nothing; the import alone says nothing."""
    open_file = Import(WASI_MODULE, "path_open", None)
    assert notes([open_file], [], {}) == ()
    assert notes([open_file], ["fs_read"], {}) == ()
    assert notes([], ["fs_read"], {}) == ("it requests 'fs_read' and imports nothing of it",)


def test_a_load_tells_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """The plugin has the notes, the log has them, and it runs."""
    with sandbox() as box, caplog.at_level(logging.INFO):
        (note,) = box.load(plugin_files(SEARCH)).notes
        assert note.endswith("and does not request 'retrieval': a call of it traps")
        plugin = box.load(plugin_files(ECHO, capabilities='["plan"]'))
        assert plugin.notes == ("it requests 'plan' and imports nothing of it",)
        assert plugin.call("run", ["hi"]).value == "hi"
    assert "org.example.hello 0.1.0: it requests 'plan'" in caplog.text
