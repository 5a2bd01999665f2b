"""The OpenAPI page says what the server does: schemathesis, which believes every word of it, finds nothing.

`benchmarks/serving.py --schemathesis` looks longer.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from tests.serving.parts import HashModel, application, listening

from stepward.testing.fixtures import tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]


class WithTokenizer(HashModel):
    tokenizer = tiny_tokenizer()


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with listening(WithTokenizer(), token="secret") as (url, _):
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--header", "Authorization: Bearer secret", "--no-color"]
        command += ["--phases", "examples,coverage,fuzzing", "--checks", "all", "--max-examples", "5", "--seed", "1", "--continue-on-failure"]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.serving.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No issues found" in done.stdout
        assert "7 selected / 7 total" in done.stdout, "a route is missing on the page"
        page = httpx.get(f"{url}/metrics", headers={"Authorization": "Bearer secret"}).text
        assert 'status="5' not in page


def document(model: HashModel, **settings: Any) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with application(model, **settings) as (client, _):
            found: dict[str, Any] = (await client.get("/openapi.json")).json()
            return found

    return asyncio.run(ask())


def test_the_page_shows_this_servers_limits() -> None:
    found = document(HashModel(), max_items=7, max_steps=11, max_body_bytes=12345)
    schemas = found["components"]["schemas"]
    assert schemas["ManyItems"]["properties"]["items"]["maxItems"] == 7
    assert schemas["StepsItem"]["properties"]["steps"]["maxItems"] == 11
    assert "12345 bytes" in found["info"]["description"]
    assert "x-stepward" not in str(found), "our own keywords are for us"


def test_the_page_knows_the_vocabulary_of_a_model_with_a_tokenizer() -> None:
    assert f"'maximum': {len(WithTokenizer.tokenizer) - 1}" in str(document(WithTokenizer()))
    forms = document(HashModel())["components"]["schemas"]["PoolingInput"]["properties"]["input"]["oneOf"]
    assert [form.get("items", form)["type"] for form in forms] == ["string", "string"], "token ids mean nothing to a model without a tokenizer"


def test_every_scoring_route_documents_its_refusals_and_the_token() -> None:
    paths = document(HashModel(), token="secret")["paths"]
    for path in ("/v1/score", "/pooling", "/get_reward"):
        route = paths[path]["post"]
        assert set(route["responses"]) >= {"200", "400", "401", "413", "415", "422", "429", "503", "504"}, path
        assert route["security"], f"{path} does not say that it asks for a token"
        assert route["requestBody"]["required"]
    assert "security" not in paths["/healthz"]["get"]
    assert "security" not in document(HashModel())["paths"]["/v1/score"]["post"]
