"""Engines run a bundle's graphs on this machine. `registry` lists them; `session.open_engine` returns a proved one."""
