"""A real `tally serve`, started once for these tests, and a shop on it whose orgs are each test's own."""

from __future__ import annotations

import gc
import itertools
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import httpx2
import hypothesis
import pytest

from fake_upstream import FakeUpstream
from tally_processes import TallyProcess
from tallystick_sdk import Tally

NO_TLS = False
"""What would be checked is read from files for each call anew, which takes longer than the call."""

hypothesis.settings.register_profile("tallystick", deadline=None)  # other programs take their share of the time
hypothesis.settings.load_profile("tallystick")

CONTRACT = """\
contract: shop
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  tailor:
    title: Tailor a document
    price: {credits: 5}
    charge_on: [success]
    repeat: {key: document, within: 30d, credits: 0}
    shows: 5 credits, and nothing for a run that fails.
  research: {title: Research, price: {cost_plus: "0.30"}, max_credits: 200, shows: Our cost plus 30 %.}
plans:
  wallet: {title: Wallet, kind: credits, base: "0", top_up: true, actions: [tailor, research]}
  metered: {title: Metered, base: "0"}
"""
START_SECONDS = 60
_numbers = itertools.count(1)


class Served:
    """A `tally serve` of its own data directory, which can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = "0"
        self.start()

    def start(self, *, wait: bool = True) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
        reading, writing = os.pipe()
        with open(os.devnull, "wb") as nothing:
            self.process = TallyProcess(
                ["serve", "--port", self.port, "--data-dir", self.folder],
                stdout=nothing.fileno(),
                stderr=writing,
                env=environment,
            )
        os.close(writing)
        self.lines: list[str] = []
        self._listening = threading.Event()
        threading.Thread(target=self._read, args=(os.fdopen(reading),), daemon=True).start()
        if wait:
            self.wait()

    def wait(self) -> None:
        self._listening.wait(START_SECONDS)
        assert self.port != "0", "".join(self.lines)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _read(self, said: TextIO) -> None:
        with said:
            for line in said:
                self.lines.append(line)
                if found := re.match(r"listening on http://\S+:(\d+)", line):
                    self.port = found[1]
                    self._listening.set()
        self._listening.set()

    def new_org(self, **more: Any) -> Org:
        return new_org(self.url, **more)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(60)


class Org(NamedTuple):
    """An org of the shop, and the server that it is on."""

    org_id: str
    url: str

    def ledger(self) -> list[dict[str, Any]]:
        """Its usage events as stored."""
        answer = httpx2.get(f"{self.url}/v1/orgs/{self.org_id}/events?limit=500", verify=NO_TLS)
        found: list[dict[str, Any]] = answer.json()["events"] if answer.status_code == 200 else []
        return found

    def history(self) -> list[dict[str, Any]]:
        """What happened to its wallet."""
        found: list[dict[str, Any]] = httpx2.get(
            f"{self.url}/v1/orgs/{self.org_id}/wallet/entries", verify=NO_TLS
        ).json()["entries"]
        return found


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the developer has set is no business of the tests, and their spool none either."""
    for name in list(os.environ):
        if name.startswith(("TALLY_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TALLY_SPOOL_DIR", str(tmp_path / "spool"))


@pytest.fixture(scope="session")
def shop() -> Iterator[Served]:
    """A server with the shop's contract, for all tests that leave it running."""
    folder = Path(tempfile.mkdtemp(prefix="tally-"))
    folder.chmod(0o711)
    served = Served(folder)
    open_shop(served.url)
    yield served
    served.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_server(shop: Served) -> Iterator[Served]:
    """The shop's server, for a test that kills it: for the next ones it is started again, at the same address."""
    yield shop
    if shop.process.poll() is not None:
        shop.start()


def open_shop(url: str) -> None:
    """Apply the contract."""
    applied = httpx2.post(
        f"{url}/v1/contracts", content=CONTRACT, headers={"Content-Type": "application/yaml"}, verify=NO_TLS
    )
    assert applied.status_code in (200, 201), applied.text


def new_org(url: str, plan: str = "wallet", credits: str = "100") -> Org:
    """An org on a plan, with credits."""
    org_id = f"org-{os.getpid()}-{next(_numbers)}"
    body = {"contract": "shop", "plan": plan, "effective_from": "2026-01-01T00:00:00Z"}
    put = httpx2.put(f"{url}/v1/orgs/{org_id}/subscription", json=body, verify=NO_TLS)
    assert put.status_code in (200, 201), put.text
    if plan == "wallet" and credits != "0":
        grant = {
            "request_id": "g1",
            "source": "top_up",
            "credits": credits,
            "author": "dana",
            "reason": "to begin with",
        }
        granted = httpx2.post(f"{url}/v1/orgs/{org_id}/grants", json=grant, verify=NO_TLS)
        assert granted.status_code in (200, 201), granted.text
    return Org(org_id, url)


@pytest.fixture
def unused_url() -> str:
    """An address at which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture
def org(shop: Served) -> Org:
    """An org with 100 credits."""
    return new_org(shop.url)


@pytest.fixture
def tally_of(org: Org) -> Iterator[Callable[..., Tally]]:
    """Makes clients of the test's org; they are closed when it ends."""
    made: list[Tally] = []

    def make(**more: Any) -> Tally:
        made.append(Tally(base_url=org.url, **{**tags_of(org), **more}))
        return made[-1]

    yield make
    for tally in made:
        tally.close(0.0)


@pytest.fixture
def tally(tally_of: Callable[..., Tally]) -> Tally:
    """A client of the test's org."""
    return tally_of()


def tags_of(org: Org) -> dict[str, Any]:
    """All mandatory tags."""
    who = {"org_id": org.org_id, "user_id": "u-1", "session_id": "s-1"}
    return {**who, "feature": "documents", "environment": "production"}


def usage(**more: Any) -> dict[str, Any]:
    """What a call used."""
    return {"provider": "openai", "model": "gpt-4o-mini", "meters": {"tokens_in": 1000, "tokens_out": 200}, **more}


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as running:
        yield running


@pytest.fixture
def client(upstream: FakeUpstream, tally: Tally) -> Any:
    """OpenAI's client, instrumented, before the fake provider."""
    openai = pytest.importorskip("openai")
    return tally.instrument(openai.OpenAI(api_key="sk-1", base_url=upstream.url + "/v1", max_retries=0))


@pytest.fixture
def claude(upstream: FakeUpstream, tally: Tally) -> Any:
    """Anthropic's, likewise."""
    anthropic = pytest.importorskip("anthropic")
    return tally.instrument(anthropic.Anthropic(api_key="sk-2", base_url=upstream.url, max_retries=0))


@pytest.fixture
def recorded(tally: Tally, org: Any) -> Callable[[], list[dict[str, Any]]]:
    """What the ledger holds once all is sent."""

    def read() -> list[dict[str, Any]]:
        gc.collect()
        assert tally.flush(), tally.stats()
        assert tally.stats().refused == tally.stats().dropped == 0
        found: list[dict[str, Any]] = org.ledger()
        return found

    return read
