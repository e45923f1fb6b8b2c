#!/usr/bin/env python3
"""Everything a person does with this repository: `python3 tasks.py TASK`. Needs Python 3.11+ and nothing else.

demo    set up, then run `tally demo`
test    set up, then check style, types and import rules, and run the tests; `test --long` tries every property with
        ten times as many examples
setup   make .venv with the locked dependencies and this package
check   style, types, import rules
bench   the benchmarks, with their baselines
crash   kill servers under load at every step: `crash [ROUNDS] [SEED]`, 300 rounds take a quarter of an hour
contention  64 writers on 10 orgs, each id sent 1 to 5 times: `contention [SECONDS] [SEED]`
gateway-crash  kill gateways under load: `gateway-crash [ROUNDS] [SEED]`, 300 rounds take half an hour
bank    64 clients spend from 10 wallets while all is killed: `bank [SECONDS] [SEED]`, ten minutes unless said otherwise
year    a simulated year of 50 customers, lived in four ways: `year [--orgs N] [--months N] [--seed N]`
faults  a database restarted, killed and cut off under load: `faults [SECONDS] [SEED]`
docs    write docs/commands.md and docs/openapi.json from the code
lock    resolve the dependencies again and write requirements/*.txt
tally   set up, then run `tally` with the arguments that follow
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCK = ROOT / "requirements" / "dev.txt"
STAMP = VENV / "installed"


def run(*command: str | Path, **more: object) -> None:
    done = subprocess.run([str(part) for part in command], cwd=ROOT, check=False, **more)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(done.returncode)


def setup() -> None:
    """Make the virtual environment when it is missing or older than the lock."""
    if sys.version_info < (3, 11):
        sys.exit("Tallystick needs Python 3.11 or newer; this is " + sys.version.split()[0])
    inputs = LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + sys.version.encode()
    wanted = hashlib.sha256(inputs).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    print("setting up .venv from the locked dependencies …", file=sys.stderr, flush=True)
    run(sys.executable, "-m", "venv", "--clear", VENV)
    pip = [BIN / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "-r", LOCK)
    run(*pip, "--no-deps", "--no-build-isolation", "--editable", ".")
    STAMP.write_text(wanted)


def check() -> None:
    run(BIN / "ruff", "check", ".")
    run(BIN / "ruff", "format", "--check", ".")
    run(BIN / "mypy")
    run(BIN / "lint-imports")


def test(*arguments: str) -> None:
    setup()
    # Tests start hundreds of processes: without bytecode kept, each would compile the program again.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pytest = [BIN / "python", "-m", "pytest"]
    if arguments == ("--long",):
        long = {**env, "HYPOTHESIS_PROFILE": "long"}
        run(*pytest, "-n", "2", "--dist", "worksteal", "--timeout", "7200", env=long)
        return
    if not arguments:
        check()
    run(*pytest, *(arguments or ("-n", "2", "--dist", "worksteal")), env=env)


def demo(*arguments: str) -> None:
    setup()
    os.execv(BIN / "tally", [str(BIN / "tally"), "demo", *arguments])


def tally(*arguments: str) -> None:
    setup()
    os.execv(BIN / "tally", [str(BIN / "tally"), *arguments])


def bench(*arguments: str) -> None:
    setup()
    run(BIN / "python", "-m", "bench", *arguments)


def _long_run(module: str, *arguments: str) -> None:
    setup()
    run(BIN / "python", "-m", module, *arguments, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")})


def crash(*arguments: str) -> None:
    _long_run("crash.rounds", *arguments)


def contention(*arguments: str) -> None:
    _long_run("crash.contention", *arguments)


def bank(*arguments: str) -> None:
    _long_run("crash.bank", *arguments)


def gateway_crash(*arguments: str) -> None:
    _long_run("crash.gateway_rounds", *arguments)


def year(*arguments: str) -> None:
    _long_run("year.run", *arguments)


def faults(*arguments: str) -> None:
    _long_run("faults", *arguments)


def docs() -> None:
    """What is generated from the code; tests say when it is out of date."""
    setup()
    generate = [BIN / "python", "-m", "typer", "tallystick.cli.main", "utils", "docs", "--name", "tally"]
    run(*generate, "--output", "docs/commands.md", env={**os.environ, "COLUMNS": "120"})
    with (ROOT / "docs" / "openapi.json").open("w") as file:
        run(BIN / "python", "-m", "tallystick.api", stdout=file)


def lock() -> None:
    """Hashed requirement files; no address of a package index is written into them."""
    uv = ["uv", "pip", "compile", "--quiet", "--generate-hashes", "--universal", "--python-version", "3.11",
          "--no-header", "--no-emit-index-url", "--upgrade", "pyproject.toml"]  # fmt: skip
    run(*uv, "-o", "requirements/runtime.txt")
    run(*uv, "--group", "dev", "-o", "requirements/dev.txt")


TASKS = {
    "setup": setup,
    "check": check,
    "test": test,
    "demo": demo,
    "tally": tally,
    "bench": bench,
    "crash": crash,
    "contention": contention,
    "bank": bank,
    "gateway-crash": gateway_crash,
    "year": year,
    "faults": faults,
    "docs": docs,
    "lock": lock,
}

if __name__ == "__main__":
    name, *rest = sys.argv[1:] or ["help"]
    if name not in TASKS:
        sys.exit(__doc__)
    TASKS[name](*rest)
