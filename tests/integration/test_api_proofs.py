"""Checkpoints and proofs over HTTP are those of the commands."""

from __future__ import annotations

from starlette.testclient import TestClient

from sealed_ledger import furnish
from tallystick.api.app import create_app
from tallystick.app.runtime import Runtime
from tallystick.app.signing import find_checkpoint, known_keys
from tallystick.invoice.proof import check_proof, read_proof


def test_checkpoints_and_proofs_are_served(runtime: Runtime) -> None:
    client = TestClient(create_app(runtime))
    nothing = client.get("/v1/checkpoints/latest")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "unknown_checkpoint")
    invoice_id = furnish(runtime)
    latest = client.get("/v1/checkpoints/latest").json()
    (key,) = known_keys(runtime)
    assert (latest["size"], latest["note"], latest["keys"]) == (3, find_checkpoint(runtime).note, [str(key)])
    assert client.get("/v1/checkpoints/2").json()["note"] == find_checkpoint(runtime, 2).note
    assert client.get("/v1/checkpoints/9").status_code == 404
    assert client.get("/v1/checkpoints/0").status_code == 422
    answer = client.get(f"/v1/invoices/{invoice_id}/proof")
    assert answer.headers["content-type"] == "application/json"
    assert check_proof(read_proof(answer.content), keys=[key]).valid
    assert client.get("/v1/invoices/inv_none/proof").status_code == 404
