"""One step of a round as a Prefect task, through which no text from an exception passes unchecked.

Prefect stores what a task raises, message and traceback, in its database and logs. So only our coded errors,
whose text is public by construction, come out; anything else is written to the institution's own log and
leaves as a bare code. Results are not persisted (they would be pickles) and nothing is cached. Nothing is retried
either, for a repeated step could draw noise or spend twice, but what `repeatable_step` marks: writing and reading of
which a second time changes nothing. `tests/deployments/test_retries.py` lists them.
"""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.tasks import exponential_backoff

from ledger.errors import CodedError
from tasks import timing
from tasks.timing import Timing

RETRIES = 3
BACK_OFF_S = 2.0


class StepError(CodedError):
    code = "step.failed"


class Party(Protocol):
    """Whoever runs steps: has a name, and a log that never leaves it."""

    @property
    def name(self) -> str: ...

    def keep_diagnostics(self, text: str) -> None: ...


PartyT = TypeVar("PartyT", bound=Party)
P = ParamSpec("P")
R = TypeVar("R")
Step = Callable[Concatenate[PartyT, P], Awaitable[R]]


def step(function: Step[PartyT, P, R]) -> Step[PartyT, P, R]:
    """Make `function(party, ...)` a Prefect task of its own name, guarded; it runs once."""
    return _step(function, retries=0)


def repeatable_step(function: Step[PartyT, P, R]) -> Step[PartyT, P, R]:
    """As `step`, of what only reads or writes and may do so again: in a flow it is tried anew after 2, 4 and 8 s, if
    it failed in a way that nobody foresaw (a disk, a database, a server). Never for what draws, signs or decides."""
    return _step(function, retries=RETRIES)


async def _was_unforeseen(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Our own refusals say the same when asked again."""
    try:
        await state.aresult()
    except StepError:
        return True
    except Exception:
        return False
    return False


def keep_error(party: Party, error: CodedError) -> None:
    """Into the institution's own log, once."""
    if not error.is_kept:
        party.keep_diagnostics("\n".join(text for text in (str(error), error.diagnostics()) if text))
        error.is_kept = True


def _step(function: Step[PartyT, P, R], *, retries: int) -> Step[PartyT, P, R]:
    @functools.wraps(function)
    async def guarded(party: PartyT, /, *args: P.args, **kwargs: P.kwargs) -> R:
        unexpected: str | None = None
        began = time.perf_counter()
        try:
            return await function(party, *args, **kwargs)
        except CodedError as error:
            keep_error(party, error)
            raise
        except Exception:  # its text may hold patient data: it goes to the institution's log alone
            unexpected = traceback.format_exc()
        finally:
            seconds = time.perf_counter() - began
            timing.tell(Timing(party.name, function.__name__, "inside", seconds))
        # Outside the handler, so that the new error carries no reference to the old one.
        party.keep_diagnostics(unexpected)
        raise StepError(f"{function.__name__} failed at {party.name}", remedy="The log there says why.")

    # Zero is said aloud: a setting of Prefect's has another default for whoever says nothing.
    tracked = task(
        name=function.__name__,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries,
        retry_delay_seconds=exponential_backoff(BACK_OFF_S) if retries else None,
        retry_condition_fn=_was_unforeseen if retries else None,
    )(guarded)

    @functools.wraps(function)
    async def run(party: PartyT, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # Outside a flow a step is a plain call: simulations and tests of many sites need no Prefect API.
        chosen = guarded if FlowRunContext.get() is None else tracked
        began = time.perf_counter()
        try:
            return await chosen(party, *args, **kwargs)
        finally:
            seconds = time.perf_counter() - began
            timing.tell(Timing(party.name, function.__name__, "outside", seconds))

    return run
