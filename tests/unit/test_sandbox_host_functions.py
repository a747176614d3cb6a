"""An application's own host functions (contract section 8): types from hints, called from wasm."""

import functools
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

from sandbox import (
    CapabilityDenied,
    DeadlineExceeded,
    FuelExhausted,
    GuestTrap,
    IncompatibleError,
    MissingExport,
    Plugin,
    RegistrationError,
)
from sandbox.hostfuncs.border import CALL_FUEL
from sandbox.hostfuncs.installed import GROUP
from sandbox.hostfuncs.threads import MOST_OVERDUE
from support.sandbox import BUMP, admit, host_call, plugin_files, sandbox

pytestmark = pytest.mark.usefixtures("isolation")

WAIT_S = 20
TEXT = "(i32.const 0) (i32.const 4)"
LOOKUP = host_call("lookup", "(param i32 i32)", TEXT)
SIGNAL = host_call("lookup", "", "")
REQUESTED = {"capabilities": '["lookup"]'}

ALL_TYPES = """(module (import "{module}" "lookup"
    (func $host (param i32 i32 i32 i32 {whole} {real} i32) (result i64))) {bump}
  (data (i32.const 0) "Gr\\c3\\bc\\c3\\9fe\\ff")
  (func (export "run") (result i64)
    (call $host (i32.const 0) (i32.const 7) (i32.const 7) (i32.const 1)
      ({whole}.const -5) ({real}.const 0.5) (i32.const 2))))"""


class Found(TypedDict):
    """What a look-up could return."""

    text: str


def echo(text: str) -> str:
    """The function of most tests."""
    return text


@contextmanager
def bringing(
    function: Callable[..., object],
    wat: str = LOOKUP,
    *,
    timeout_ms: int | None = None,
    **limits: Any,
) -> Iterator[Plugin]:
    """A plugin that requests ``lookup``, in an application that brings it."""
    with sandbox(admit("lookup", **limits)) as box:
        box.register(function, name="lookup", capability="lookup", timeout_ms=timeout_ms)
        yield box.load(plugin_files(wat, **REQUESTED))


def answer_of(plugin: Plugin) -> Any:
    """What the host function told the guest."""
    value = plugin.call().value
    assert isinstance(value, str)
    return json.loads(value)


def ok_of(plugin: Plugin) -> Any:
    """What it returned."""
    answer = answer_of(plugin)
    assert list(answer) == ["ok"], answer
    return answer["ok"]


def code_of(plugin: Plugin) -> Any:
    """The code of its failure."""
    answer = answer_of(plugin)
    assert list(answer) == ["err"], answer
    assert list(answer["err"]) == ["code", "message"]
    return answer["err"]["code"]


@pytest.mark.parametrize(("whole", "real"), [("i64", "f64"), ("i32", "f32")])
@pytest.mark.parametrize("module", ["stack_composer_v1", "env"])
def test_every_type_of_a_parameter_crosses(module: str, whole: str, real: str) -> None:
    """Text, bytes, signed numbers and flags arrive as Python's; both widths are taken."""
    seen: list[tuple[object, ...]] = []

    def take(text: str, data: bytes, whole: int, real: float, flag: bool) -> int:  # noqa: FBT001
        seen.append((text, data, whole, real, flag))
        return whole

    wat = ALL_TYPES.format(module=module, whole=whole, real=real, bump=BUMP)
    with bringing(take, wat) as plugin:
        assert ok_of(plugin) == -5
    assert seen == [("Grüße", b"\xff", -5, 0.5, True)]
    assert [type(item) for item in seen[0]] == [str, bytes, int, float, bool]


def test_every_json_result_crosses() -> None:
    """Numbers, text, None, lists and tables come out as JSON."""

    def some() -> Any:
        return {"a": [1, 0.5, "ü", None, True], "b": {}}

    def table() -> list[Found]:
        return [{"text": "x"}]

    def maybe() -> str | None:
        return None

    def word() -> Literal["yes", "no"]:
        return "yes"

    def pair() -> tuple[int, ...]:
        return 1, 2

    def noted() -> Annotated[dict[str, float], ["in metres"]]:
        return {"x": 1.0}

    expected: list[tuple[Callable[..., object], object]] = [
        (some, {"a": [1, 0.5, "ü", None, True], "b": {}}),
        (table, [{"text": "x"}]),
        (maybe, None),
        (word, "yes"),
        (pair, [1, 2]),
        (noted, {"x": 1.0}),
    ]
    for function, value in expected:
        with bringing(function, SIGNAL) as plugin:
            assert ok_of(plugin) == value


def test_a_function_without_a_result() -> None:
    """The import has none, or gets ``{"ok": null}``, whatever the function returns."""
    seen: list[str] = []

    def note(text: str) -> None:
        seen.append(text)
        return len(seen)  # type: ignore[return-value]  # a slip that must not reach the guest

    silent = f"""(module (import "env" "lookup" (func $host (param i32 i32))) {BUMP}
      (data (i32.const 0) "text") (func (export "run") (call $host {TEXT})))"""
    with bringing(note, silent) as plugin:
        assert plugin.call().value is None
    with bringing(note) as plugin:
        assert ok_of(plugin) is None
    assert seen == ["text", "text"]


def test_methods_partials_and_keyword_defaults_are_functions_too() -> None:
    """What is bound already, and keyword-only parameters with a default, do not cross."""

    class Store:
        def find(self, text: str, *, most: int = 3) -> str:
            return text * most

        def __call__(self, text: "str") -> "str":
            return text.upper()

    def find(prefix: str, text: str) -> str:
        return prefix + text

    functions: list[tuple[Callable[..., object], str]] = [
        (Store().find, "texttexttext"),
        (Store(), "TEXT"),
        (functools.partial(find, "a "), "a text"),
        (functools.partial(Store().find, most=1), "text"),
    ]
    for function, value in functions:
        with bringing(function) as plugin:
            assert ok_of(plugin) == value


def test_a_failure_is_an_answer_without_its_reasons(caplog: pytest.LogCaptureFixture) -> None:
    """The guest learns that it failed; the log where and why, once a call, made harmless."""

    def fail(text: str) -> str:
        message = f"password hunter2 for \x1b[31m{text}"
        raise LookupError(message)

    twice = LOOKUP.replace(
        f"(call $host {TEXT})", f"(drop (call $host {TEXT})) (call $host {TEXT})"
    )
    with bringing(fail, twice) as plugin, caplog.at_level(logging.ERROR):
        answer = answer_of(plugin)
    assert answer["err"]["code"] == "failed"
    assert "hunter2" not in str(answer)
    (record,) = caplog.records
    assert "LookupError: password hunter2 for \\x1b[31mtext" in record.getMessage()
    assert "in fail" in record.getMessage()
    assert "\x1b" not in record.getMessage()


def test_a_failure_that_cannot_be_shown_is_a_failure_too(caplog: pytest.LogCaptureFixture) -> None:
    """An exception whose text raises, and one whose text has no end, are told all the same."""

    class UnshownError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    for error in (UnshownError(), ValueError("x" * 1_000_000)):

        def fail(*, error: Exception = error) -> str:
            raise error

        with bringing(fail, SIGNAL) as plugin:
            assert code_of(plugin) == "failed"
    unshown, long = (record.getMessage() for record in caplog.records)
    assert "UnshownError" in unshown
    assert len(long) < 10_000


def test_a_failure_that_no_result_can_carry_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An import without a result: the guest goes on, the log says what happened."""

    def fail() -> None:
        raise ValueError

    silent = f"""(module (import "env" "lookup" (func $host)) {BUMP}
      (func (export "run") (result i32) (call $host) (i32.const 7)))"""
    with bringing(fail, silent) as plugin:
        assert plugin.call().value == 7
    assert "ValueError" in caplog.text


def cycle() -> object:
    """A value that JSON can't carry."""
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize("make", [cycle, set, lambda: float("nan"), lambda: {"x": b""}])
def test_a_value_that_json_cannot_carry_is_a_failure(make: Callable[[], object]) -> None:
    """Cycles, sets, NaN and bytes within a result become ``failed``."""

    def odd() -> Any:
        return make()

    with bringing(odd, SIGNAL) as plugin:
        assert code_of(plugin) == "failed"


def test_a_result_is_bounded() -> None:
    """More than ``output_bytes`` do not reach the guest."""

    def long() -> str:
        return "x" * 100

    with bringing(long, SIGNAL, output_bytes=110) as plugin:
        assert ok_of(plugin) == "x" * 100
    with bringing(long, SIGNAL, output_bytes=109) as plugin:
        assert code_of(plugin) == "too_long"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_what_is_no_exception_comes_out_to_the_caller(kind: type[BaseException]) -> None:
    """KeyboardInterrupt and its like end the call as they are, and the plugin serves on."""
    raised = [kind("stop")]

    def interrupt(text: str) -> str:
        if raised:
            raise raised.pop()
        return text

    with bringing(interrupt) as plugin:
        with pytest.raises(kind) as caught:
            plugin.call()
        assert type(caught.value) is kind
        assert ok_of(plugin) == "text"


@pytest.mark.parametrize(
    ("requested", "granted"), [('["lookup"]', "other"), ('["other"]', "lookup"), ("[]", "lookup")]
)
def test_a_denied_function_traps_on_call_and_is_not_run(requested: str, granted: str) -> None:
    """Requested and granted: both are needed; without, the plugin loads all the same."""
    seen: list[str] = []

    def note(text: str) -> None:
        seen.append(text)

    with sandbox(admit(granted)) as box:
        box.register(note, name="lookup", capability="lookup")
        plugin = box.load(plugin_files(LOOKUP, capabilities=requested))
        with pytest.raises(CapabilityDenied, match="'lookup'") as caught:
            plugin.call()
    assert caught.value.capability == "lookup"
    assert seen == []


def test_functions_may_share_a_capability() -> None:
    """The word is what is granted, the name what is imported."""
    with sandbox(admit("search")) as box:
        box.register(echo, name="lookup", capability="search")
        box.register(echo, name="find", capability="search")
        for name in ("lookup", "find"):
            wat = host_call(name, "(param i32 i32)", TEXT)
            assert ok_of(box.load(plugin_files(wat, capabilities='["search"]'))) == "text"


@pytest.mark.parametrize(
    ("params", "body", "expected"),
    [
        ("(param i32)", "(i32.const 0)", r"\(i32\) -> \(i64\)"),
        ("(param i32 i64)", "(i32.const 0) (i64.const 0)", r"\(i32, i64\) -> \(i64\)"),
        ("", "", r"\(\) -> \(i64\)"),
    ],
)
def test_an_import_of_another_type_is_refused(params: str, body: str, expected: str) -> None:
    """At load, with the import's name, its type and the one that there is."""
    with sandbox(admit("lookup")) as box:
        box.register(echo, name="lookup", capability="lookup")
        wat = host_call("lookup", params, body)
        with pytest.raises(
            IncompatibleError,
            match=rf"imports stack_composer_v1\.lookup as {expected}, "
            r"expected \(i32, i32\) -> \(i64\)$",
        ):
            box.load(plugin_files(wat, **REQUESTED))


def test_a_result_must_be_taken() -> None:
    """Only a function that returns None may be imported without a result."""
    wat = f"""(module (import "env" "lookup" (func $host (param i32 i32))) {BUMP}
      (func (export "run")))"""
    with sandbox() as box:
        box.register(echo, name="lookup", capability="lookup")
        with pytest.raises(IncompatibleError, match=r"env\.lookup as \(i32, i32\) -> \(\)"):
            box.load(plugin_files(wat, **REQUESTED))


def test_one_function_under_two_types() -> None:
    """Both widths of a number in one module, by both module names, each linked as declared."""

    def double(number: int) -> int:
        return 2 * number

    wat = f"""(module
      (import "env" "lookup" (func $narrow (param i32) (result i64)))
      (import "stack_composer_v1" "lookup" (func $wide (param i64) (result i64))) {BUMP}
      (func (export "run") (result i64) (drop (call $narrow (i32.const -1)))
        (call $wide (i64.const 4294967296))))"""
    with bringing(double, wat) as plugin:
        assert ok_of(plugin) == 2**33


def test_one_place_cannot_have_two_types() -> None:
    """A module that imports the same place twice, differently, is refused and no crash."""
    wat = """(module
      (import "env" "host_plan" (func (param i32 i32) (result i64)))
      (import "env" "host_plan" (func (param i32 i32 i32 i32) (result i64)))
      (func (export "run")))"""
    with sandbox() as box, pytest.raises(IncompatibleError, match="host_plan"):
        box.load(plugin_files(wat))


@pytest.mark.parametrize("stands_in", [False, True])
@pytest.mark.parametrize("capabilities", ["[]", '["log", "llm"]', '["search"]'])
def test_what_nobody_registered_is_refused(capabilities: str, *, stands_in: bool) -> None:
    """An unknown import of a plugin that requests no unknown word: refused by every host."""
    with sandbox(admit("search"), stands_in=stands_in) as box:
        box.register(echo, name="find", capability="search")
        with pytest.raises(IncompatibleError, match=r"imports stack_composer_v1\.lookup, which no"):
            box.load(plugin_files(LOOKUP, capabilities=capabilities))


def test_an_application_that_lacks_the_function_refuses_the_plugin() -> None:
    """The word is unknown too: the message says that another application may be meant."""
    with (
        sandbox(admit("lookup")) as box,
        pytest.raises(IncompatibleError, match=r"lookup, which no host function.*requests lookup,"),
    ):
        box.load(plugin_files(LOOKUP, **REQUESTED))


def test_another_host_stands_in() -> None:
    """Where no application is, its plugins load and are probed; granted, they get an answer."""
    health = '[health]\nfunc = "run"\n'
    with sandbox(admit("lookup"), stands_in=True) as box:
        plugin = box.load(plugin_files(LOOKUP, health, **REQUESTED))
        plugin.probe()
        assert code_of(plugin) == "unavailable"


def test_a_stand_in_asks_for_every_unknown_word() -> None:
    """Which word is the function's only its application knows."""
    for missing in ("lookup", "other"):
        granted = {"lookup", "other"} - {missing}
        with sandbox(admit(*granted), stands_in=True) as box:
            plugin = box.load(plugin_files(LOOKUP, capabilities='["log", "lookup", "other"]'))
            with pytest.raises(CapabilityDenied) as caught:
                plugin.call()
            assert caught.value.capability == missing


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lookup", "(func (result i32))"),
        ("lookup", "(func (param i32) (result f64))"),
        ("lookup", "(func (result i64 i64))"),
        ("lookup", "(memory 1)"),
        ("host_lgo", "(func)"),
        ("host_clock", "(func (result i64))"),
        ("Lookup", "(func)"),
        ("__assert_fail", "(func (param i32 i32 i32 i32))"),
    ],
)
def test_no_stand_in_for_what_no_application_could_provide(name: str, kind: str) -> None:
    """Names and results that are not an application's, and what is no function, are refused."""
    wat = f'(module (import "env" "{name}" {kind}) (func (export "run")))'
    with sandbox(stands_in=True) as box, pytest.raises(IncompatibleError, match=rf"env\.{name}"):
        box.load(plugin_files(wat, **REQUESTED))


def unhinted(key) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """No hint."""
    return str(key)


def listed(keys: list[str]) -> str:
    """A list."""
    return keys[0]


def optional(key: str, most: int | None) -> str:
    """A union."""
    return key * (most or 1)


def several(*keys: str) -> str:
    """Any number."""
    return keys[0]


def named(*, key: str) -> str:
    """By keyword only."""
    return key


def no_result(key: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """No hint on the result."""
    return key


def raw(key: str) -> bytes:
    """Not JSON."""
    return key.encode()


def nested(key: str) -> list[dict[int, str]]:
    """Not JSON, further in."""
    return [{0: key}]


def unreadable(key: "Nowhere") -> str:  # type: ignore[name-defined]  # noqa: F821
    """A name that isn't there."""
    return str(key)


async def later(key: str) -> str:
    """A coroutine."""
    return key


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (unhinted, "its parameter 'key' has no type hint, expected str, bytes, int, float or bool"),
        (listed, r"its parameter 'keys' is list\[str\], expected str, bytes, int, float or bool"),
        (optional, r"its parameter 'most' is int \| None, expected str"),
        (several, r"its parameter '\*keys' is not positional"),
        (named, "its parameter 'key' is not positional"),
        (no_result, "its result has no type hint, expected one, or None"),
        (raw, "its result is bytes, expected what JSON can carry"),
        (nested, r"its result is list\[dict\[int, str\]\], expected what JSON"),
        (unreadable, "its type hints can't be read: name 'Nowhere' is not defined"),
        (later, "it is async, expected a plain function"),
        (max, "its type hints can't be read: no signature found"),
        ("echo", "got 'echo', expected a function"),
    ],
)
def test_a_function_that_cannot_cross_is_refused(function: Any, reason: str) -> None:
    """At registration, with the parameter's name and what is allowed."""
    with sandbox() as box, pytest.raises(RegistrationError, match=rf"function 'lookup': {reason}"):
        box.register(function, name="lookup", capability="lookup")


@pytest.mark.parametrize(
    ("name", "capability", "timeout_ms", "reason"),
    [
        ("Look up", "lookup", None, "expected a name of a-z, 0-9 and _"),
        ("", "lookup", None, "expected a name of"),
        ("x" * 65, "lookup", None, "expected a name of"),
        (None, "lookup", None, "expected a name of"),
        ("host_log", "lookup", None, "those that begin with 'host_' are the sandbox's own"),
        ("host_lookup", "lookup", None, "those that begin with 'host_'"),
        ("lookup", "log", None, "its capability 'log' is the sandbox's own"),
        ("lookup", "fs_read", None, "its capability 'fs_read' is the sandbox's own"),
        ("lookup", "Look-up", None, "its capability is 'Look-up', expected a word of a-z"),
        ("lookup", "lookup", 0, "timeout_ms is 0, expected a whole number from 1"),
        ("lookup", "lookup", True, "timeout_ms is True"),
        ("lookup", "lookup", 0.5, "timeout_ms is 0.5"),
        ("lookup", "lookup", 2**31, "timeout_ms is 2147483648"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    name: Any, capability: Any, timeout_ms: Any, reason: str
) -> None:
    """Grammar, the sandbox's own names and words, and a time-out that is none."""
    with sandbox() as box, pytest.raises(RegistrationError, match=reason):
        box.register(echo, name=name, capability=capability, timeout_ms=timeout_ms)


def test_functions_are_registered_once_and_before_the_first_load() -> None:
    """Twice is an error, after a load too; a load that failed took nothing."""
    with sandbox(admit("lookup")) as box:
        with pytest.raises(IncompatibleError):
            box.load(plugin_files(LOOKUP, **REQUESTED))
        box.register(echo, name="lookup", capability="lookup")
        with pytest.raises(RegistrationError, match="there is one of that name already"):
            box.register(echo, name="lookup", capability="other")
        assert ok_of(box.load(plugin_files(LOOKUP, **REQUESTED))) == "text"
        with pytest.raises(RegistrationError, match="a plugin has been loaded; register all"):
            box.register(echo, name="find", capability="lookup")


def test_a_function_that_hangs_does_not_outlast_the_deadline() -> None:
    """The call ends at its deadline, whatever the function does, and the next one is served."""
    release = threading.Event()
    first = [True]

    def hang(text: str) -> str:
        if first and first.pop():
            release.wait(WAIT_S)
        return text

    with bringing(hang, wall_timeout_ms=300) as plugin:
        with pytest.raises(DeadlineExceeded):
            plugin.call()
        assert not release.is_set()
        assert ok_of(plugin) == "text"
        release.set()


def test_after_the_deadline_a_guest_calls_nothing_more() -> None:
    """The guest goes on to its next branch; what it calls on the way is not run."""
    release = threading.Event()
    calls: list[str] = []

    def hang() -> None:
        release.wait(WAIT_S)

    def note() -> None:
        calls.append("note")

    wat = """(module (import "env" "hang" (func $hang)) (import "env" "note" (func $note))
      (func (export "run") (call $hang) (call $note)))"""
    with sandbox(admit("lookup", wall_timeout_ms=200)) as box:
        box.register(hang, name="hang", capability="lookup")
        box.register(note, name="note", capability="lookup")
        with pytest.raises(DeadlineExceeded):
            box.load(plugin_files(wat, **REQUESTED)).call()
        release.set()
    assert calls == []


def test_a_function_may_have_a_timeout_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """The guest is told and goes on; its call is not over. The log says it once a call."""
    release = threading.Event()

    def hang(text: str) -> str:
        release.wait(WAIT_S)
        return text

    twice = LOOKUP.replace(
        f"(call $host {TEXT})", f"(drop (call $host {TEXT})) (call $host {TEXT})"
    )
    with bringing(hang, twice, timeout_ms=20, wall_timeout_ms=60_000) as plugin:
        assert code_of(plugin) == "timeout"
        release.set()
    (record,) = caplog.records
    assert "lookup has not returned in time for org.example.hello" in record.getMessage()


def test_functions_that_hang_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Of one that hangs no more calls are begun, until some return; others are not concerned."""
    release = threading.Event()
    begun: list[str] = []

    def hang(text: str) -> str:
        begun.append(text)
        release.wait(WAIT_S)
        return text

    with sandbox(admit("lookup", wall_timeout_ms=60_000)) as box:
        box.register(hang, name="lookup", capability="lookup", timeout_ms=1)
        box.register(echo, name="find", capability="lookup")
        plugin = box.load(plugin_files(LOOKUP, **REQUESTED))
        find = host_call("find", "(param i32 i32)", TEXT)
        other = box.load(plugin_files(find, **REQUESTED))
        assert [code_of(plugin) for _ in range(MOST_OVERDUE)] == ["timeout"] * MOST_OVERDUE
        assert code_of(plugin) == "unavailable"
        assert ok_of(other) == "text"
        assert "lookup has not returned in time" in caplog.text
        ours = helpers()
        release.set()
        box.close()
        for thread in ours:
            thread.join(WAIT_S)
        assert not any(thread.is_alive() for thread in ours)
        assert len(begun) == MOST_OVERDUE


def helpers() -> list[threading.Thread]:
    """The threads that run functions."""
    return [t for t in threading.enumerate() if t.name == "sandbox-host-function"]


def test_a_function_that_hung_is_called_again_once_it_returned() -> None:
    """The bound counts what still runs, and not what ever was late."""
    gates = [threading.Event() for _ in range(MOST_OVERDUE)]
    ended = threading.Semaphore(0)
    waiting = list(gates)

    def hang(text: str) -> str:
        if waiting:
            waiting.pop().wait(WAIT_S)
            ended.release()
        return text

    with bringing(hang, timeout_ms=200, wall_timeout_ms=60_000) as plugin:
        with ThreadPoolExecutor(MOST_OVERDUE) as pool:
            codes = list(pool.map(lambda _: code_of(plugin), gates))
        assert codes == ["timeout"] * MOST_OVERDUE
        for gate in gates:
            gate.set()
        for _ in gates:
            assert ended.acquire(timeout=WAIT_S)
        # each thread counts itself out right after; the last may be about to
        watchdog = threading.Event()
        timer = threading.Timer(WAIT_S, watchdog.set)
        timer.start()
        while "err" in answer_of(plugin):
            assert not watchdog.is_set()
        timer.cancel()


def test_what_fails_late_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits any more, so the log of the host is the only place."""
    release = threading.Event()

    def fail() -> None:
        release.wait(WAIT_S)
        raise SystemExit

    with bringing(fail, SIGNAL, timeout_ms=1) as plugin:
        assert code_of(plugin) == "timeout"
        ours = helpers()
        release.set()
    for thread in ours:
        thread.join(WAIT_S)
    assert "lookup failed when it was late: SystemExit" in caplog.text


def test_ctrl_c_does_not_wait_for_a_function() -> None:
    """Ctrl-C in the main thread ends the call while its function hangs."""
    release = threading.Event()
    returned: list[str] = []

    def hang(text: str) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(WAIT_S)
        returned.append(text)
        return text

    with bringing(hang, wall_timeout_ms=60_000) as plugin:
        with pytest.raises(KeyboardInterrupt):
            plugin.call()
        assert returned == []
        release.set()


def test_what_an_application_does_costs_fuel() -> None:
    """As a built-in does: so much a call, and one a byte that is copied either way."""
    short = LOOKUP.replace(TEXT, "(i32.const 0) (i32.const 1)")
    with bringing(echo, short) as plugin:
        of_short = plugin.call()
    with bringing(echo) as plugin:
        of_long = plugin.call()
    assert (of_short.value, of_long.value) == ('{"ok": "t"}', '{"ok": "text"}')
    assert of_short.fuel_used > CALL_FUEL
    assert of_long.fuel_used - of_short.fuel_used == 2 * len("ext")


def test_a_guest_cannot_call_for_ever() -> None:
    """The fuel of a call bounds how often a function is called in it."""
    calls: list[str] = []

    def count(text: str) -> None:
        calls.append(text)

    wat = f"""(module (import "env" "lookup" (func $host (param i32 i32))) {BUMP}
      (func (export "run") (loop $l (call $host {TEXT}) (br $l))))"""
    with (
        bringing(count, wat, fuel_units=10 * CALL_FUEL, wall_timeout_ms=60_000) as plugin,
        pytest.raises(FuelExhausted),
    ):
        plugin.call()
    assert len(calls) == 9


def test_calls_of_many_threads_are_in_the_function_at_once() -> None:
    """Four calls meet in the function, and each gets its own answer."""
    meeting = threading.Barrier(4)

    def meet(number: int) -> int:
        meeting.wait(WAIT_S)
        return number

    wat = f"""(module (import "env" "lookup" (func $host (param i64) (result i64))) {BUMP}
      (func (export "run") (param i64 i32) (result i64) (call $host (local.get 0))))"""
    extra = '[exports.run]\nparams = ["i64", "i32"]\nresult = "string"\n'
    with sandbox(admit("lookup", wall_timeout_ms=60_000)) as box:
        box.register(meet, name="lookup", capability="lookup")
        plugin = box.load(plugin_files(wat, extra, **REQUESTED))
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda n: plugin.call("run", [n, 0]).value, range(40)))
    assert results == [f'{{"ok": {n}}}' for n in range(40)]


def test_a_function_may_call_a_plugin() -> None:
    """The call within is a call of its own."""
    plugins: list[Plugin] = []

    def ask(text: str) -> str:
        return text + str(plugins[1].call().value)

    with sandbox(admit("lookup")) as box:
        box.register(ask, name="lookup", capability="lookup")
        plugins.append(box.load(plugin_files(LOOKUP, **REQUESTED)))
        plugins.append(box.load(plugin_files('(module (func (export "run")))')))
        assert ok_of(plugins[0]) == "textNone"


def test_what_the_guest_must_offer_is_asked_before_the_function_runs() -> None:
    """Without ``alloc`` or within it, without a memory, or beyond it: the function is not run."""
    seen: list[str] = []

    def note(text: str) -> str:
        seen.append(text)
        return text

    start = '(module (import "env" "lookup" (func $host (param i32 i32) (result i64)))'
    run = f'(func (export "run") (result i64) (call $host {TEXT})))'
    memory = '(memory (export "memory") 1)'
    hungry = f"""(func (export "alloc") (param i32) (result i32)
      (drop (call $host {TEXT})) (i32.const 1024))"""
    with (
        bringing(note, f"{start} {memory} {run}") as plugin,
        pytest.raises(MissingExport, match="alloc"),
    ):
        plugin.call()
    for wat, code in (
        (f'{start} (func (export "run") (drop (call $host {TEXT}))))', "NO_MEMORY"),
        (LOOKUP.replace(TEXT, "(i32.const 131070) (i32.const 4)"), "MEMORY_OUT_OF_BOUNDS"),
        (LOOKUP.replace('"text"', '"\\ff\\ff\\ff\\ff"'), "INVALID_UTF8"),
    ):
        with bringing(note, wat) as plugin, pytest.raises(GuestTrap) as caught:
            plugin.call()
        assert caught.value.code == code
    assert seen == []
    with bringing(note, f"{start} {memory} {hungry} {run}") as plugin:
        with pytest.raises(GuestTrap) as caught:
            plugin.call()
        assert caught.value.code == "REENTRANT_CALL"
    assert len(seen) == 1


def test_threads_are_used_again_and_end_with_the_sandbox() -> None:
    """Calls one after the other need hardly more than one thread; none is left at the end."""
    with bringing(echo) as plugin:
        for _ in range(50):
            plugin.call()
        ours = helpers()
        assert 1 <= len(ours) <= 8
    for thread in ours:
        thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in ours)


PACKAGE = """
def lookup(key: str) -> str:
    return key.upper()

def bring(register):
    register(lookup, name="lookup", capability="lookup")
"""


def install(folder: Path, name: str, code: str) -> None:
    """A package with an entry point, as pip leaves it."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {name}:bring\n")


def test_an_installed_package_brings_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Plugins can import them; a package that fails is told and keeps nobody from loading."""
    install(tmp_path, "sc_stock", PACKAGE)
    install(tmp_path, "sc_broken", "raise OSError('no disk')")
    monkeypatch.syspath_prepend(tmp_path)
    with sandbox(admit("lookup")) as box:
        plugin = box.load(plugin_files(LOOKUP, **REQUESTED))
        assert json.loads(str(plugin.call().value)) == {"ok": "TEXT"}
    assert "sc_broken:bring is left out: no disk" in caplog.text


def test_the_application_comes_before_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that the program registered itself is not a package's any more."""
    install(tmp_path, "sc_late", PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    with bringing(echo) as plugin:
        assert json.loads(str(plugin.call().value)) == {"ok": "text"}
    assert "there is one of that name already" in caplog.text
