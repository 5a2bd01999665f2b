"""Lean: a client of the REPL for Lean 4 (leanprover-community/repl): {"cmd": code, "env": number} gives messages, sorries and a new environment."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepward.core.errors import RequestFailed
from stepward.core.record import content_hash
from stepward.rewards.proofs.assistant import Checked, FormalStep, Goal, Message
from stepward.rewards.proofs.transport import Transport

AUTOMATION = "first | trivial | assumption | omega | (norm_num; done) | (simp_all; done) | decide"
_STEP = re.compile(r"\s*have\s+(?P<name>[^\W\d][\w']*)\s*:\s*(?P<statement>.+?)\s*(?::=\s*(?P<proof>.*))?\Z", re.DOTALL)
_REFUSED = re.compile(
    r"#|:=|\b(?:sorry|admit|axiom|by|import|open|macro|elab|syntax|notation|unsafe|run_cmd|initialize|instance|attribute|set_option|theorem|lemma|def|example|end|namespace"
    r"|section|native_decide|IO|eval|opaque|extern)\b|--|/-"
)


@dataclass(eq=False)
class Lean:
    """Steps are `have NAME : STATEMENT` in the tactic block of a theorem; each check is one command in the environment of the preamble.

    A client belongs to the event loop that first uses it.
    """

    transport: Transport
    automation: str = AUTOMATION
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        self._environments: dict[str, int] = {}
        self._lock = asyncio.Lock()

    language = "lean"
    hole = "sorry"

    @property
    def fingerprint(self) -> str:
        return f"lean/{content_hash(self.automation)[:8]}"

    def negation(self, statement: str) -> str:
        return f"¬ ({statement})"

    def falsity(self) -> str:
        return "False"

    def read(self, code: str) -> FormalStep | None:
        match = _STEP.match(code)
        if match is None or _REFUSED.search(match["statement"]) or "have " in match["statement"]:
            return None
        return FormalStep(match["name"], " ".join(match["statement"].split()))

    def theory(self, goal: Goal, steps: Sequence[tuple[FormalStep, str]]) -> str:
        lines = [goal.theorem.rstrip(), *(f"  have {step.name} : {step.statement} := by {proof}" for step, proof in steps), "  sorry"]
        return "\n".join(lines)

    async def check(self, goal: Goal, theory: str, /) -> Checked:
        """One command. Raises: RequestFailed on a time-out, a crash, or a reply that is not one."""
        async with self._lock:
            reply = await self._ask(theory, await self._environment(goal.preamble))
        return Checked(tuple(_message(one) for one in reply.get("messages", ())), len(reply.get("sorries", ())))

    async def close(self) -> None:
        self._environments.clear()
        await self.transport.close()

    async def _environment(self, preamble: str) -> int | None:
        """The number of the environment in which the preamble has run; None without one."""
        if not preamble.strip():
            return None
        if preamble not in self._environments:
            reply = await self._ask(preamble, None)
            if any(one.get("severity") == "error" for one in reply.get("messages", ())) or "env" not in reply:
                raise RequestFailed("the preamble does not run: " + " ".join(str(one.get("data")) for one in reply.get("messages", ()))[:300])
            self._environments[preamble] = reply["env"]
        return self._environments[preamble]

    async def _ask(self, command: str, environment: int | None) -> dict[str, Any]:
        request = {"cmd": command} if environment is None else {"cmd": command, "env": environment}
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.transport.send(json.dumps(request, ensure_ascii=False))
                reply = json.loads(await self.transport.receive())
        except TimeoutError as error:
            await self.close()  # what comes late would answer the next request
            raise RequestFailed(f"Lean took longer than {self.timeout_s:g} s") from error
        except ValueError as error:
            await self.close()
            raise RequestFailed(f"Lean answered no JSON: {error}") from error
        except RequestFailed:
            await self.close()
            raise
        if not isinstance(reply, dict) or set(reply) <= {"message"}:
            raise RequestFailed(f"Lean refuses: {str(reply)[:300]}")
        return reply


def _message(one: dict[str, Any]) -> Message:
    return Message(str(one.get("severity", "error")), int((one.get("pos") or {}).get("line", 0)), str(one.get("data", "")))
