"""One run on many processes or machines with Ray: who does what (`runner`), in which process (`worker`), and where results are kept (`journal`)."""

from stepward.engine.distributed.runner import Job, Report, run_distributed

__all__ = ["Job", "Report", "run_distributed"]
