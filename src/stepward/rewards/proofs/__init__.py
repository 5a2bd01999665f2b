"""tools:proofs, a verifier of formal steps: Lean 4 or Isabelle checks each step alone, the others taken on trust, and proves its negation to refute it."""

from stepward.rewards.proofs.assistant import Assistant, Checked, Message
from stepward.rewards.proofs.isabelle import Isabelle
from stepward.rewards.proofs.lean import Lean
from stepward.rewards.proofs.transport import Process, Recorded, Recording, Socket, Transport
from stepward.rewards.proofs.verifier import NoProofAssistant, Proofs

__all__ = ["Assistant", "Checked", "Isabelle", "Lean", "Message", "NoProofAssistant", "Process", "Proofs", "Recorded", "Recording", "Socket", "Transport"]
