"""`stepward serve`: where the token comes from, what is refused before anything is loaded, and that it serves."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.serving.parts import PATIENCE_S

from stepward.cli.main import main
from stepward.cli.serve import read_token
from stepward.core import InputError


def test_tokens_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("from-a-file\n")
    monkeypatch.setenv("SCORE_TOKEN", "from-the-environment")
    assert read_token("SCORE_TOKEN", None) == "from-the-environment"
    assert read_token(None, file) == "from-a-file"
    assert read_token(None, None) is None
    file.write_text("\n")
    for env, path, message in (("SCORE_TOKEN", file, "not both"), ("NO_SUCH", None, "NO_SUCH"), (None, file, "empty"), (None, tmp_path / "no", "no")):
        with pytest.raises(InputError, match=message):
            read_token(env, path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "tools:arithmetic", "--host", "0.0.0.0"], "--token-env"),
        (["--model", "tools:arithmetic", "--token-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (["--model", "nonsense:x", "--port", "0"], "nonsense"),
    ],
)
def test_mistakes_end_with_a_message_and_code_2(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stepward", "serve", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_it_serves_and_ends_with_0() -> None:
    command = [sys.executable, "-m", "stepward.cli", "serve", "--model", "tools:arithmetic", "--port", "0", "--name", "arithmetic"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = ""
        for line in process.stderr:
            url = url or "".join(re.findall(r"http://[\d.:]+", line))
            if "ready" in line:
                break
        answer = httpx.post(f"{url}/v1/score", json={"problem": "What is 2 + 2?", "text": "2 + 2 = 4.\n\n4 + 1 = 6."}, timeout=PATIENCE_S).json()
        assert answer["model"] == {"name": "arithmetic", "fingerprint": "tools:arithmetic/2"}
        assert answer["results"][0]["scores"] == [1.0, 0.0]
        assert answer["results"][0]["first_error"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()
