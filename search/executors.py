"""Where work is done, see `predictors.executors`: in this process, or on Ray (`search.distributed`)."""

from predictors.executors import Executor, InProcess, WorkerLost

__all__ = ["Executor", "InProcess", "WorkerLost"]
