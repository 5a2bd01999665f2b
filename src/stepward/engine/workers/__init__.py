"""Workers: functions that must not hang, swell or crash this process, called in processes that can be killed."""

from stepward.engine.workers.pool import FAILED, Limits, Reply, WorkerPool

__all__ = ["FAILED", "Limits", "Reply", "WorkerPool"]
