"""Tasks that run in other processes: any executor of the standard library, and a cluster of dask.

Functions, arguments and results travel as these pickle them, so workers are trusted, and their
network is. The cache never holds pickles.
"""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from onnx_relusv.core.errors import ReluSvError, UsageError, WorkersLostError
from onnx_relusv.work.executors import (
    Advance,
    Done,
    Key,
    Known,
    Result,
    Task,
    Tasks,
    available_cores,
    unseen,
)

# Seconds after which an interrupt is heard at the latest.
_HEARING = 0.5
# Seconds that a scheduler may take to answer.
_ANSWER = 15
_GONE = (
    "What was done is kept in --cache: start workers again and repeat the command, which goes on "
    "from there."
)


@dataclass(frozen=True)
class Pool:
    """An executor that has another one run all tasks, those with the most work first.

    The first error or interrupt ends it: what has not begun is cancelled, and what is under way
    elsewhere is left to itself.

    Attributes:
        executor: Runs them; it stays open.
        advance: Called after every task, in the caller's thread.
    """

    executor: futures.Executor
    advance: Advance = unseen

    def __call__(
        self, tasks: Tasks[Key, Result], known: Known[Key, Result], done: Done[Key, Result]
    ) -> None:
        """Runs what is not known.

        Raises:
            WorkersLostError: The processes that run tasks are gone.
        """
        left = sorted(set(tasks) - set(known), key=lambda key: -tasks[key].load.work)
        under_way: dict[futures.Future[Result], Key] = {}
        try:
            for key in left:
                under_way[self._begun(tasks[key])] = key
            while under_way:
                ended, _ = futures.wait(under_way, _HEARING, futures.FIRST_COMPLETED)
                for future in ended:
                    key = under_way.pop(future)
                    done(key, _result(future))
                    self.advance(tasks[key].steps)
        finally:
            for future in under_way:
                future.cancel()

    def _begun(self, task: Task[Result]) -> futures.Future[Result]:
        try:
            return self.executor.submit(_computed, task.function, task.arguments)
        except RuntimeError as error:  # it is shut down, or broken
            raise WorkersLostError(f"no task can be given to workers: {error}. {_GONE}") from error


def _computed(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    """What a worker runs: a task's function, with as many threads as the worker may use."""
    return function(*arguments, available_cores())


def _result(future: futures.Future[Result]) -> Result:
    try:
        return future.result()
    except (futures.BrokenExecutor, futures.CancelledError) as error:
        reason = str(error) or "the connection to them was lost"
        raise WorkersLostError(f"the workers are gone: {reason}. {_GONE}") from error
    except ReluSvError:
        raise
    except Exception as error:
        # dask's, whose classes are there where dask is.
        if type(error).__name__ in _DASK_LOST and type(error).__module__.startswith("distributed"):
            raise WorkersLostError(f"workers died at their task: {error} {_GONE}") from error
        raise


_DASK_LOST = ("KilledWorker", "FutureCancelledError", "CommClosedError", "NoValidWorkerError")


@contextmanager
def cluster(address: str) -> Iterator[futures.Executor]:
    """The workers of a dask cluster as an executor; the cluster goes on afterwards.

    Args:
        address: Of its scheduler, as ``tcp://host:8786``.

    Raises:
        UsageError: No scheduler answers there, or dask is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "--cluster needs dask: pip install 'onnx-relusv[cluster]', here and where workers run."
        ) from error
    try:
        client = Client(address, timeout=_ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"--cluster {address}: no scheduler of dask answers there. Start one with `dask "
            "scheduler`, and give the address that it shows, as tcp://HOST:8786."
        ) from error
    try:
        # Every task has a name of its own: what was cancelled may be asked for again.
        yield client.get_executor(pure=False)
    finally:
        with suppress(OSError):  # the scheduler is gone
            client.close(timeout=_HEARING)
