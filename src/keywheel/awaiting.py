"""What asyncio drivers wait for: the first model list, a lane that opens soon, a reservation in a store far away."""

import asyncio
import threading

from keywheel.core.steps import Done, Report, Take, TurnedDown
from keywheel.core.types import Abandoned
from keywheel.engine import Engine
from keywheel.flow import Flow
from keywheel.stores.contract import PATIENCE

FIRST_LOOK = 10.0  # seconds that a request waits for the first model list
LOOK_AGAIN = 0.02  # seconds
TAKEN_BY = 1.5 * PATIENCE  # seconds from the wish to reserve until it is given up


async def first_look(ready: threading.Event, seconds: float) -> None:
    """Wait for the first model list. A thread for each who waits would hold up the others, and the end."""
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    while not ready.is_set() and loop.time() < due:  # noqa: ASYNC110 - the keeper sets it in its thread
        await asyncio.sleep(LOOK_AGAIN)


async def lane(engine: Engine, flow: Flow, until: float) -> Done:
    """Wait, but no longer than until there is a lane."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(woken.set)

    flow.wake = wake
    try:
        if not flow.woken:
            async with asyncio.timeout(max(0.0, until - engine.clock())):
                await woken.wait()
    except TimeoutError:
        pass
    finally:
        flow.wake = None
    return Done(engine.clock())


async def reservation(engine: Engine, step: Take) -> Report:
    """Reserve off the loop. What is not granted in time is as good as refused: the request looks for another lane.

    Whoever is interrupted gives the lease back unused.
    """
    taking = asyncio.get_running_loop().run_in_executor(engine.takers, engine.take, step)
    try:
        await asyncio.wait((taking,), timeout=TAKEN_BY)
        if taking.done():
            return taking.result()
    except BaseException as error:
        engine.settle(step.lease, Abandoned(reason(error), unsent=True))
        raise
    finally:
        taking.cancel()  # one that has not begun never will; one that has counts, and nothing is sent for it
    return TurnedDown(engine.clock())


def reason(error: BaseException) -> str:
    """Why an attempt was left: its client went away, or we have a bug."""
    gone = asyncio.CancelledError | KeyboardInterrupt | GeneratorExit
    return "client gone" if isinstance(error, gone) else "own bug"
