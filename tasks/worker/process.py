"""One persistent process that does an institution's computing, and the only way into it.

torch and TenSEAL hold the interpreter's lock and share random state between threads, so each institution
computes in a process of its own (spawned, not forked) and flows await it. Whatever is raised inside becomes a
code and a public text; the exception itself, its message and its traceback stay in the institution's log. What
the process prints goes there too. What is computed lives in the sessions, not here.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Lock, Thread
from typing import Concatenate, Generic, ParamSpec, Protocol, TextIO, TypeVar

from ledger.errors import CodedError, Kind, PolicyViolation, Violation
from tasks import progress
from tasks.progress import Progress


class Session(Protocol):
    """What lives in the process: constructed there from the home."""

    def __init__(self, home: Path) -> None: ...


SessionT = TypeVar("SessionT", bound=Session)
SessionCo = TypeVar("SessionCo", bound=Session, covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
Preparation = Callable[[], None]


class Worker(Protocol[SessionCo]):
    """Where a session's methods run."""

    async def call(
        self, method: Callable[Concatenate[SessionCo, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    def close(self) -> None: ...


class WorkerDiedError(CodedError):
    code = "worker.died"


class StepFailedError(CodedError):
    """Something inside the process raised that was not an error of ours; details are in the log there."""

    code = "worker.step-failed"


@dataclass(frozen=True, slots=True)
class Refused:
    """What of an error may leave the process."""

    code: str
    kind: Kind
    public_message: str
    remedy: str
    violations: tuple[Violation, ...]


class WorkerProcess(Generic[SessionT]):
    """Runs methods of one session object, one at a time, in one spawned process."""

    def __init__(
        self,
        session: type[SessionT],
        home: Path,
        *,
        party: str,
        log: Path,
        preparation: Preparation | None = None,
    ) -> None:
        """`preparation` runs in the process before the session exists; tests inject faults with it."""
        self._party = party
        context = get_context("spawn")
        self._progress: SimpleQueue[Progress | None] = context.SimpleQueue()
        self._executor = ProcessPoolExecutor(
            max_workers=1,
            mp_context=context,
            initializer=_begin,
            initargs=(session, home, log, self._progress, preparation),
        )
        self._relay = Thread(target=self._pass_on, daemon=True)
        self._relay.start()

    async def call(
        self, method: Callable[Concatenate[SessionT, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `SessionClass.method` in the process. Raises only errors whose text is public."""
        loop = asyncio.get_running_loop()
        try:
            outcome = await loop.run_in_executor(self._executor, _run, method.__name__, args, kwargs)
        except BrokenProcessPool:
            raise WorkerDiedError(f"the working process of {self._party} died") from None
        if isinstance(outcome, Refused):
            raise _error(outcome, self._party)
        result: R = outcome  # type: ignore[assignment] # what `method` returned, over the process boundary
        return result

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._progress.put(None)
        self._relay.join()

    def _pass_on(self) -> None:
        while (item := self._progress.get()) is not None:
            progress.tell(item)


class InlineWorker(Generic[SessionT]):
    """The in-memory twin: the session lives in a thread of this process, for tests and simulations of many
    sites. What is raised is reduced to codes exactly as between processes. Calls of all parties take turns:
    threads share torch's random state, and first weights drawn beside another draw would not be the seed's."""

    _turn = Lock()

    def __init__(self, session: type[SessionT], home: Path, *, party: str, log: Path) -> None:
        self._party, self._log = party, log
        self._session = session(home)
        self._executor = ThreadPoolExecutor(max_workers=1)

    async def call(
        self, method: Callable[Concatenate[SessionT, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        def run() -> R | Refused:
            try:
                with self._turn:
                    bound: Callable[P, R] = getattr(self._session, method.__name__)
                    return bound(*args, **kwargs)
            except Exception as error:  # as in the process: no foreign exception leaves as it is
                with self._log.open("a") as log:
                    return _refused(error, log)

        outcome = await asyncio.get_running_loop().run_in_executor(self._executor, run)
        if isinstance(outcome, Refused):
            raise _error(outcome, self._party)
        return outcome

    def close(self) -> None:
        self._executor.shutdown()


def _error(refused: Refused, party: str) -> CodedError:
    error: CodedError
    if refused.violations:
        return PolicyViolation(refused.violations)
    if refused.code == StepFailedError.code:
        error = StepFailedError(f"a step of {party} failed", remedy="Its site.log says why.")
    else:
        error = CodedError(refused.public_message, remedy=refused.remedy, code=refused.code)
    error.kind = refused.kind
    return error


# -- inside the process ------------------------------------------------------------------------------------

_session: Session | None = None
_start_failure: Refused | None = None


def _begin(
    session: type[Session],
    home: Path,
    log: Path,
    queue: SimpleQueue[Progress | None],
    preparation: Preparation | None,
) -> None:
    global _session, _start_failure
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ["OMP_NUM_THREADS"] = "1"  # the institutions of a demo share one machine's cores
    Thread(target=_end_with_parent, daemon=True).start()
    progress.listen(queue.put)
    try:
        if preparation is not None:
            preparation()
        _session = session(home)
    except Exception as error:  # an initializer that raises would only say that the process died
        _start_failure = _refused(error, sys.stderr)


def _end_with_parent() -> None:
    """A killed parent cannot close its pool; without this its workers would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(method: str, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    if _start_failure is not None:
        return _start_failure
    try:
        return getattr(_session, method)(*args, **kwargs)
    except Exception as error:  # nothing raised in here may leave as it is: its text can hold patient data
        return _refused(error, sys.stderr)


def _refused(error: Exception, log: TextIO) -> Refused:
    traceback.print_exception(error, file=log)
    if not isinstance(error, CodedError):
        return Refused(StepFailedError.code, "fault", "", "", ())
    log.write(f"{error.diagnostics()}\n")
    violations = error.violations if isinstance(error, PolicyViolation) else ()
    return Refused(error.code, error.kind, error.public_message, error.remedy, violations)
