"""Remote reward models: step scores from vLLM and SGLang servers, rendered and read by the same conventions as local models."""

from stepward.rewards.remote.load import FORMS, is_remote, load_remote
from stepward.rewards.remote.model import RemoteModel
from stepward.rewards.remote.server import Server

__all__ = ["FORMS", "RemoteModel", "Server", "is_remote", "load_remote"]
