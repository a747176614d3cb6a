"""For every input: manifests and arguments end in a value or a typed error, text is safe."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.arguments import lower
from sandbox.errors import ArgumentError, SandboxError
from sandbox.log import CallLog, LogRecord, escape_text
from sandbox.manifest import PluginManifest
from sandbox.signature import PARAMETER_TYPES, Signature
from support.sandbox import manifest_text, parse, plugin_files, sandbox

TOML_VALUES = st.sampled_from(
    ['""', '"x"', "1", "-1", "1.5", "nan", "true", "[]", "[[1]]", "{}", '["a", "a"]', "1979-05-27"]
)
KEYS = st.sampled_from(
    ["id", "version", "wasm_target", "signature", "capabilities", "entry", "abi", "min_host", "x"]
)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_typed_error(data: bytes) -> None:
    """Parsing never ends in anything but a manifest or a SandboxError."""
    try:
        assert isinstance(parse(data, "hello.toml"), PluginManifest)
    except SandboxError as error:
        assert "hello.toml" in str(error)  # noqa: PT017  # either way is right


@given(st.dictionaries(KEYS, TOML_VALUES))
def test_any_value_of_a_key_is_taken_or_refused_by_file(plugin: dict[str, str]) -> None:
    """Wrong types under known and unknown keys are typed errors that name the file."""
    try:
        assert parse(manifest_text(**plugin).encode(), "hello.toml").meta.name == "Hello"
    except SandboxError as error:
        assert "hello.toml" in str(error)  # noqa: PT017  # either way is right


@given(st.text())
def test_escaped_text_prints_and_says_the_same(text: str) -> None:
    """Nothing a terminal acts on is left, and printable text is not touched."""
    escaped = escape_text(text)
    assert escaped.isprintable()
    assert escaped == text or not text.isprintable()


@given(
    st.sampled_from(PARAMETER_TYPES),
    st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.booleans()),
)
def test_any_argument_is_lowered_or_refused(kind: str, argument: str | bytes | float) -> None:
    """An argument becomes bytes or a number of its type, or an ArgumentError."""
    try:
        (lowered,) = lower("f", Signature((kind,), "none"), [argument])
    except ArgumentError:
        return
    expected = bytes if kind in {"string", "bytes"} else float if kind[0] == "f" else int
    assert isinstance(lowered, expected)


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=300))))
def test_the_log_never_exceeds_its_budget(writes: list[tuple[str, bytes]]) -> None:
    """However a guest writes, what is logged stays within the budget but for one note."""
    records: list[LogRecord] = []
    log = CallLog("org.example.hello", 500, records.append)
    for source, data in writes:
        log.write(source, data)
    log.flush()
    said = [record for record in records if record.source != "sandbox"]
    assert len(records) - len(said) <= 1
    assert sum(len(record.message.encode("unicode_escape")) for record in said) <= 500 * 10


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=64))
def test_any_payload_is_refused_by_type(tail: bytes) -> None:
    """Bytes after a module's head never do worse than a typed error at load."""
    with sandbox() as box:
        try:
            box.load(plugin_files(b"\0asm\x01\0\0\0" + tail))
        except SandboxError as error:
            assert error.plugin_id == "org.example.hello"  # noqa: PT017  # either way is right
