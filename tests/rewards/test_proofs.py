"""Formal steps are proved, disproved or left alone by a proof assistant; its failures are never findings. Exchanges follow the protocols' documentation."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepward.core import Problem, RequestFailed, Trajectory
from stepward.labeling.tools import ToolLabels
from stepward.rewards.proofs import Isabelle, Lean, NoProofAssistant, Process, Proofs, Recorded, Recording, Socket
from stepward.rewards.proofs.assistant import Checked, Goal, Message
from stepward.rewards.proofs.lean import AUTOMATION
from stepward.rewards.verifiers import State, StepVerdict, ToolVerifier, installed

THEOREM = "theorem t (n : Nat) (h : n > 2) : n > 0 := by"
GOAL = Goal("import Mathlib", THEOREM)
LEAN_PROBLEM = Problem("Show that n > 0.", metadata={"lean": {"theorem": THEOREM, "preamble": "import Mathlib"}})
WARNING = {"severity": "warning", "pos": {"line": 1, "column": 8}, "endPos": {"line": 1, "column": 9}, "data": "declaration uses 'sorry'"}
HOLE = {"proofState": 0, "pos": {"line": 3, "column": 2}, "endPos": {"line": 3, "column": 7}, "goal": "n : ℕ\nh : n > 2\n⊢ n > 0"}


def error(line: int, text: str) -> dict[str, Any]:
    return {"severity": "error", "pos": {"line": line, "column": 21}, "endPos": {"line": line, "column": 26}, "data": text}


def theory(*haves: str) -> str:
    return "\n".join([THEOREM, *(f"  have {have}" for have in haves), "  sorry"])


def asked(command: str, *messages: dict[str, Any], env: int = 0) -> dict[str, Any]:
    """An exchange with Lean's REPL, whose replies are pretty-printed JSON."""
    return {
        "send": json.dumps({"cmd": command, "env": env}),
        "receive": [json.dumps({"sorries": [HOLE], "messages": [WARNING, *messages], "env": env + 1}, indent=1)],
    }


IMPORT = {"send": '{"cmd": "import Mathlib"}', "receive": ['{"env": 0}']}
FAILS = error(2, "omega could not prove the goal")


def judged(proofs: Proofs, problem: Problem, *steps: str) -> list[StepVerdict]:
    return list(asyncio.run(ToolVerifier([proofs]).judge(Trajectory.from_texts(problem, list(steps)))))


def lean(*exchanges: dict[str, Any]) -> Proofs:
    return Proofs(assistant=Lean(Recorded([IMPORT, *exchanges])))


def step(code: str) -> str:
    return f"We see:\n```lean\n{code}\n```\n"


def test_a_step_that_automation_proves_alone_is_supported_with_its_theory() -> None:
    proofs = lean(asked(theory("h1 : n > 1 := by sorry")), asked(theory(f"h1 : n > 1 := by {AUTOMATION}")))
    (verdict,) = judged(proofs, LEAN_PROBLEM, step("have h1 : n > 1 := by linarith"))
    assert verdict.state is State.SUPPORTED, verdict
    assert verdict.deciding[0].evidence["theory"] == theory(f"h1 : n > 1 := by {AUTOMATION}"), "the writer's own proof is not run"
    assert verdict.deciding[0].span == (16, 47)


def test_later_steps_take_earlier_ones_on_trust() -> None:
    first = [asked(theory("h1 : n > 1 := by sorry")), asked(theory(f"h1 : n > 1 := by {AUTOMATION}"))]
    second = [asked(theory("h1 : n > 1 := by sorry", "h2 : n > 0 := by sorry")), asked(theory("h1 : n > 1 := by sorry", f"h2 : n > 0 := by {AUTOMATION}"))]
    assert [verdict.state.value for verdict in judged(lean(*first, *second), LEAN_PROBLEM, step("have h1 : n > 1"), step("have h2 : n > 0"))] == [
        "supported"
    ] * 2


def test_only_a_proof_of_the_negation_refutes() -> None:
    tried = [asked(theory("h1 : n < 2 := by sorry")), asked(theory(f"h1 : n < 2 := by {AUTOMATION}"), FAILS)]
    denied, absurd = theory(f"h1 : ¬ (n < 2) := by {AUTOMATION}"), theory(f"h1 : False := by {AUTOMATION}")
    text = step("have h1 : n < 2 := by omega")
    (wrong,) = judged(lean(*tried, asked(denied), asked(absurd, FAILS)), LEAN_PROBLEM, text)
    assert (wrong.state, wrong.kind, wrong.deciding[0].evidence["theory"]) == (State.REFUTED, "formal step", denied)
    (unsure,) = judged(lean(*tried, asked(denied, FAILS)), LEAN_PROBLEM, text)
    assert (unsure.state, unsure.verdicts[0].reason) == (State.ABSTAIN, "automation proves neither the step nor its negation")
    (nonsense,) = judged(lean(*tried, asked(denied), asked(absurd)), LEAN_PROBLEM, text)
    assert (nonsense.state, nonsense.verdicts[0].reason) == (State.ABSTAIN, "the hypotheses contradict one another")


def test_the_negation_is_tried_from_proved_steps_only() -> None:
    first = [
        asked(theory("h1 : n > 9 := by sorry")),
        asked(theory(f"h1 : n > 9 := by {AUTOMATION}"), FAILS),
        asked(theory(f"h1 : ¬ (n > 9) := by {AUTOMATION}"), FAILS),
    ]
    second = [
        asked(theory("h1 : n > 9 := by sorry", "h2 : n < 9 := by sorry")),
        asked(theory("h1 : n > 9 := by sorry", f"h2 : n < 9 := by {AUTOMATION}"), FAILS),
        asked(theory(f"h2 : ¬ (n < 9) := by {AUTOMATION}"), FAILS),  # without h1: a wrong step refutes no later one
    ]
    verdicts = judged(lean(*first, *second), LEAN_PROBLEM, step("have h1 : n > 9"), step("have h2 : n < 9"))
    assert [verdict.state for verdict in verdicts] == [State.ABSTAIN, State.ABSTAIN]
    assert "failed" not in verdicts[1].reason


def test_what_is_not_well_formed_is_no_finding_and_leaves_the_next_step_alone() -> None:
    exchanges = [
        asked(theory("h1 : m > 1 := by sorry"), error(2, "unknown identifier 'm'")),
        asked(theory("h2 : n > 0 := by sorry")),
        asked(theory(f"h2 : n > 0 := by {AUTOMATION}")),
    ]
    first, second = judged(lean(*exchanges), LEAN_PROBLEM, step("have h1 : m > 1"), step("have h2 : n > 0"))
    assert (first.state, first.verdicts[0].reason) == (State.ABSTAIN, "the statement is not well formed here")
    assert first.verdicts[0].evidence["messages"] == ("line 2: unknown identifier 'm'",)
    assert second.state is State.SUPPORTED


@pytest.mark.parametrize(
    "reply",
    ['{"message": "Unknown environment."}', "not json", '["a list"]', '{"env": 0, "messages": [{"severity": "error", "data": "unknown module prefix"}]}'],
)
def test_failures_of_the_assistant_are_never_labels(reply: str) -> None:
    proofs = Proofs(assistant=Lean(Recorded([{"send": '{"cmd": "import Mathlib"}', "receive": [reply]}])))
    trajectory = Trajectory.from_texts(LEAN_PROBLEM, [step("have h1 : n > 1")])
    labels = asyncio.run(ToolLabels(verifiers=[proofs]).label(trajectory))
    assert labels.hard == (None,)
    assert "the proof assistant failed" in str(labels.reasons)


@pytest.mark.parametrize(
    "code",
    [
        "have h1 : n > 1 := by sorry\nhave h2 : n > 2 := by sorry",
        "have h1 : (by run_cmd IO.println 1; exact True)",
        "have h1 : n > 1 ∧ (fun _ => True) (by exact sorry)",
        '#eval IO.Process.run {cmd := "true"}',
        "have h1 : True := trivial\nend\n#eval 1",
        "have h1 : True\naxiom bad : False",
        "theorem x : True := trivial",
        "h1 : True",
    ],
)
def test_nothing_but_a_statement_is_sent(code: str) -> None:
    sent: list[str] = []

    class Watch(Recorded):
        async def send(self, message: str) -> None:
            sent.append(message)
            await super().send(message)

    proofs = Proofs(assistant=Lean(Watch([])))
    (verdict,) = judged(proofs, LEAN_PROBLEM, step(code))
    assert verdict.state is State.ABSTAIN
    assert not any(word in message for message in sent for word in ("run_cmd", "#eval", "axiom", "IO.", "exact sorry", "have h2"))


def test_a_step_without_a_theorem_or_a_block_is_not_read() -> None:
    proofs = Proofs(assistant=Lean(Recorded([])))
    assert judged(proofs, Problem("Show it."), step("have h1 : n > 1"))[0].verdicts == ()
    assert judged(proofs, LEAN_PROBLEM, "have h1 : n > 1")[0].verdicts == ()


def test_a_recording_is_what_was_said_and_refuses_anything_else() -> None:
    async def talk() -> list[dict[str, Any]]:
        recording = Recording(Recorded([IMPORT, asked("def f := 2")]))
        checked = await Lean(recording).check(Goal("import Mathlib", ""), "def f := 2")
        assert checked == Checked((Message("warning", 1, "declaration uses 'sorry'"),), 1)
        again = Recorded(recording.exchanges)
        await again.send('{ "cmd" : "import Mathlib" }')
        assert await again.receive() == '{"env": 0}'
        with pytest.raises(RequestFailed, match="the recording has"):
            await again.send('{"cmd": "def f := 3"}')
        with pytest.raises(RequestFailed, match="ends here"):
            await again.receive()
        return recording.exchanges

    assert [exchange["send"] for exchange in asyncio.run(talk())] == ['{"cmd": "import Mathlib"}', '{"cmd": "def f := 2", "env": 0}']


REPL = """
import json, sys
lines = []
for line in sys.stdin:
    if line.strip():
        lines.append(line)
        continue
    request = json.loads("".join(lines)); lines = []
    if "hang" in request["cmd"]:
        continue
    if "die" in request["cmd"]:
        sys.exit(3)
    print(json.dumps({"messages": [{"severity": "info", "pos": {"line": 1, "column": 0}, "data": request["cmd"]}], "env": 7}, indent=1))
    print(flush=True)
"""


def test_a_process_is_spoken_to_in_blank_lines_and_killed_when_it_hangs() -> None:
    async def talk() -> None:
        process = Process([sys.executable, "-c", REPL], memory_limit_mb=2048)
        client = Lean(process, timeout_s=20.0)
        assert (await client.check(Goal("", ""), "line one\nline two")).messages == (Message("info", 1, "line one\nline two"),)
        with pytest.raises(RequestFailed, match="ended"):
            await client.check(Goal("", ""), "die")
        client.timeout_s = 0.2
        with pytest.raises(RequestFailed, match="longer than"):
            await client.check(Goal("", ""), "hang")
        assert process._process is None
        client.timeout_s = 20.0
        assert (await client.check(Goal("", ""), "alive")).messages[0].text == "alive", "a fresh process"
        await client.close()
        with pytest.raises(RequestFailed, match="could not be started"):
            await Lean(Process(["/nonexistent/repl"])).check(Goal("", ""), "x")

    asyncio.run(talk())


ISABELLE_THEOREM = 'theorem t: fixes n :: nat assumes h: "n > 2" shows "n > 0"'
ISABELLE_PROBLEM = Problem("Show that n > 0.", metadata={"isabelle": {"theorem": ISABELLE_THEOREM, "preamble": "theory T imports Main begin"}})
SESSION = {
    "send": 'session_start {"session": "HOL", "options": ["quick_and_dirty=true"]}',
    "receive": [
        'OK {"task":"4f0f"}',
        'NOTE {"kind":"writeln","message":"Starting session HOL ...","session":"HOL","task":"4f0f"}',
        'FINISHED {"task":"4f0f","session_id":"8bb6","tmp_dir":"/tmp/isabelle-x/server_session1"}',
    ],
}


class IsabelleReplies(Recorded):
    """Answers use_theories by what the theory on disk holds, in the server's own words."""

    def __init__(self, folder: Path, fails: Callable[[str], bool]) -> None:
        super().__init__([SESSION])
        self.folder, self.fails, self.theories = folder, fails, list[str]()

    async def send(self, message: str) -> None:
        if message.startswith("use_theories"):
            arguments = json.loads(message.removeprefix("use_theories"))
            assert arguments["session_id"] == "8bb6"
            assert arguments["master_dir"] == str(self.folder)
            (name,) = arguments["theories"]
            text = (self.folder / f"{name}.thy").read_text(encoding="utf-8")
            assert text.startswith(f"theory {name} imports Main begin")
            self.theories.append(text)
            failed = self.fails(text)
            errors = (
                [{"kind": "error", "message": "Failed to finish proof", "pos": {"line": 4, "offset": 1, "end_offset": 3, "file": f"{name}.thy"}}]
                if failed
                else []
            )
            status = {"ok": not failed, "total": 9, "unprocessed": 0, "running": 0, "warned": 0, "failed": len(errors), "finished": 9, "consolidated": True}
            node = {"node_name": f"{name}.thy", "theory_name": f"Draft.{name}", "status": status, "messages": errors, "exports": []}
            finished = json.dumps({"ok": not failed, "errors": errors, "nodes": [node], "task": "77"})
            note = json.dumps({"percentage": 50, "task": "77", "kind": "nodes_status", "nodes_status": []})
            self._exchanges.append({"send": message, "receive": ['OK {"task":"77"}', f"NOTE {note}", f"FINISHED {finished}"]})
        await super().send(message)


def isabelle_step(code: str) -> str:
    return f"```isabelle\n{code}\n```"


def test_isabelle_goes_through_the_same_procedure(tmp_path: Path) -> None:
    replies = IsabelleReplies(tmp_path, lambda text: '"n < 2" using a by' in text or '"False"' in text.replace('"False" sorry', ""))
    proofs = Proofs(assistant=Isabelle(replies, tmp_path))
    right, wrong = judged(proofs, ISABELLE_PROBLEM, isabelle_step('have a: "n > 1" using h by linarith'), isabelle_step('have b: "n < 2" by simp'))
    assert (right.state, wrong.state) == (State.SUPPORTED, State.REFUTED)
    assert '  have a: "n > 1" by (auto | simp_all | blast | fastforce | presburger | linarith | algebra)' in replies.theories[1]
    assert 'have b: "\\<not> (n < 2)" using a by' in replies.theories[-2], "proved steps may be used"
    assert len({text.split()[1] for text in replies.theories}) == len(replies.theories), "a name is never used twice"
    for code in ('have c: "x" ML ‹OS.Process.exit 0›', "ML ‹1›", 'have c: "a" and d: "b"', 'have c: "sorry"'):
        (verdict,) = judged(Proofs(assistant=Isabelle(IsabelleReplies(tmp_path, lambda _: True), tmp_path)), ISABELLE_PROBLEM, isabelle_step(code))
        assert verdict.state is State.ABSTAIN


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (['ERROR "Bad session"'], "error"),
        (['OK {"task":"1"}', 'FAILED {"task":"1","kind":"error","message":"Session build failed"}'], "failed"),
        (['OK {"task":"1"}', "FINISHED nonsense"], "no JSON"),
        (['OK {"task":"1"}'], "recording ends"),
    ],
)
def test_failures_of_isabelle_are_failures(tmp_path: Path, received: list[str], reason: str) -> None:
    client = Isabelle(Recorded([{**SESSION, "receive": received}]), tmp_path)
    with pytest.raises(RequestFailed, match=reason):
        asyncio.run(client.check(Goal("", ISABELLE_THEOREM), "theory T imports Main begin end"))


def test_the_socket_sends_the_password_first_and_reads_long_messages() -> None:
    async def talk() -> None:
        heard: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            password = await reader.readline()
            if password != b"secret\n":
                writer.write(b"ERROR\n")
                writer.close()
                return
            writer.write(b'OK {"isabelle_id":"x","isabelle_name":"Isabelle2024"}\n')
            heard.extend((password, await reader.readline()))
            body = ('NOTE {"message":"' + "é" * 40 + '"}').encode()
            writer.write(str(len(body)).encode() + b"\n" + body + b'FINISHED {"ok":true}\n')
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        socket = Socket("127.0.0.1", port, "secret")
        await socket.send("echo 1")
        assert await socket.receive() == 'NOTE {"message":"' + "é" * 40 + '"}'
        assert await socket.receive() == 'FINISHED {"ok":true}'
        with pytest.raises(RequestFailed, match="gone"):
            await socket.receive()
        await socket.close()
        assert heard == [b"secret\n", b"echo 1\n"]
        refused = Socket("127.0.0.1", port, "wrong")
        with pytest.raises(RequestFailed, match="refuses"):
            await refused.send("echo 1")
        await refused.close()
        server.close()
        await server.wait_closed()
        with pytest.raises(RequestFailed, match="no Isabelle server"):
            await Socket("127.0.0.1", port, "secret").send("echo 1")

    asyncio.run(talk())


def test_without_an_assistant_the_remedy_is_named_and_the_others_stay_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepward.rewards.proofs.verifier.shutil.which", lambda name: None)
    with pytest.raises(NoProofAssistant, match="leanprover-community/repl"):
        Proofs()
    assert "proofs" not in [verifier.name for verifier in installed()]
    assert Proofs(assistant=Lean(Recorded([]))).fingerprint.startswith("proofs/1/lean/")
