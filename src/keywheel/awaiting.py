"""What asyncio drivers wait for: the first model list, a lane that opens soon, a reservation in a store far away."""

import asyncio
import threading

from keywheel.core.attempts import Done, Report, Take
from keywheel.core.types import Abandoned
from keywheel.engine import Engine, Flow

FIRST_LOOK = 10.0  # seconds that a request waits for the first model list
LOOK_AGAIN = 0.02  # seconds


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
    """Reserve off the loop. Whoever is interrupted gives the lease back unused."""
    try:
        return await asyncio.to_thread(engine.take, step)
    except BaseException as error:
        engine.settle(step.lease, Abandoned(reason(error), unsent=True))
        raise


def reason(error: BaseException) -> str:
    """Why an attempt was left: its client went away, or we have a bug."""
    gone = asyncio.CancelledError | KeyboardInterrupt | GeneratorExit
    return "client gone" if isinstance(error, gone) else "own bug"
