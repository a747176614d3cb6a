"""Limits by the command line: the operator's bounds, for all plugins and for one."""

from support.system import PLUGIN_ID, Machine


def test_the_operators_bounds_for_one_plugin_win(installed: Machine) -> None:
    """In both directions; a call that meets one says what was used and which key raises it."""
    general, own = "[limits]\nfuel_units = 10\n", f'[plugins."{PLUGIN_ID}".limits]\n'
    installed.configure(general)
    ran = installed.run("call", PLUGIN_ID, "run", "Jane", "--stats", expect=1)
    assert "used up its fuel of 10 units, 0 of them in host functions" in ran.err
    assert f'raise limits.fuel_units, or plugins."{PLUGIN_ID}".limits.fuel_units' in ran.err
    assert "10" in next(line for line in ran.err.splitlines() if line.startswith("fuel"))
    installed.configure(general + own + "fuel_units = 1000000\n")
    assert installed.run("call", PLUGIN_ID, "run", "Jane").out.strip() == "Hello, Jane"
    installed.configure(own + "mem_bytes = 65536\n")
    ran = installed.run("call", PLUGIN_ID, "run", "Jane", expect=1)
    assert "limits.mem_bytes" in ran.err
