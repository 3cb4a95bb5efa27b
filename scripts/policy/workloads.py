"""Who asks, and when. Every stream of chance has a name of its own, so traffic does not depend on who answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import exp, inf, log, pi, sin
from random import Random

from scripts.policy.harness import Gateway, Query, Reply
from scripts.policy.loop import Loop

DAY = 86_400.0
RETRIES = 2  # of an SDK
LONGEST_WAIT = (
    60.0  # seconds of a Retry-After that an SDK honours; longer ones it replaces by its own
)
FIRST_WAIT, LAST_WAIT = 0.5, 8.0  # seconds of an SDK's own waits


@dataclass(slots=True)
class Call:
    """What one client wanted and got, its own retries included. `first`: seconds to a stream's first content."""

    client: str
    arrival: float
    finish: float = inf
    ok: bool = False
    first: float = inf
    model: str = ""
    attempts: int = 0
    asks: int = 0
    status: int = 0


Done = Callable[[Call], None]


def ignore(_: Call) -> None:
    """For clients that come with or without an answer."""


@dataclass(slots=True)
class Traffic:
    """The clients of one run."""

    loop: Loop
    gateway: Gateway
    seed: str
    until: float
    calls: list[Call] = field(default_factory=list[Call])
    sdk_chance: Random = field(init=False)  # apart from the arrivals', which no answer may change

    def __post_init__(self) -> None:
        self.sdk_chance = self.chance("sdk")

    def chance(self, name: str) -> Random:
        """A stream of chance."""
        return Random(f"{self.seed}/{name}")

    def call(self, query: Query, *, sdk: bool = False, done: Done = ignore) -> None:
        """Ask, and retry as an SDK does if it is one."""
        call = Call(query.client, self.loop.now)
        self.calls.append(call)
        self._ask(call, query, sdk, done)

    def _ask(self, call: Call, query: Query, sdk: bool, done: Done) -> None:
        call.asks += 1
        self.gateway.ask(query, partial(self._take, call, query, sdk, done))

    def _take(self, call: Call, query: Query, sdk: bool, done: Done, reply: Reply) -> None:
        call.attempts += reply.attempts
        wait = sdk_wait(reply, call.asks, self.sdk_chance) if sdk else None
        if wait is not None:
            self.loop.after(wait, partial(self._ask, call, query, sdk, done))
            return
        call.finish, call.ok, call.status, call.model = (
            reply.at,
            reply.ok,
            reply.status,
            reply.model,
        )
        if reply.first is not None:
            call.first = reply.first - call.arrival
        done(call)


def sdk_wait(reply: Reply, asks: int, chance: Random) -> float | None:
    """Seconds until an SDK asks again, None when it gives up. As the OpenAI SDK (3.x) does it."""
    if reply.status == 200 or asks > RETRIES:
        return None
    told = reply.problem.headers() if reply.problem else {}
    said = float(told.get("retry-after-ms", 0.0)) / 1000
    usual = reply.status in (0, 408, 409, 429) or reply.status >= 500
    if said > LONGEST_WAIT or told.get("x-should-retry", str(usual).lower()) != "true":
        return None
    if said > 0:
        return said
    return min(FIRST_WAIT * 2.0 ** (asks - 1), LAST_WAIT) * (1 - 0.25 * chance.random())


def query(client: str, chance: Random, conversation: str | None = None, grown: int = 0) -> Query:
    """A usual request: prompts of about 600 tokens, 60 % streamed, a third with a limit on the answer."""
    tokens = int(exp(chance.gauss(log(600), 1.0)))
    limit = chance.choice((None, None, 512))
    stream = chance.random() < 0.6
    return Query(client, min(20_000, max(20, tokens + grown)), limit, stream, conversation)


# --- shapes ------------------------------------------------------------------------------------------


def poisson(traffic: Traffic, client: str, per_second: float, *, sdk: bool = False) -> None:
    """Requests that know nothing of each other."""
    chance = traffic.chance(client)

    def arrive() -> None:
        if traffic.loop.now < traffic.until:
            traffic.call(query(client, chance), sdk=sdk)
            traffic.loop.after(chance.expovariate(per_second), arrive)

    traffic.loop.after(chance.expovariate(per_second), arrive)


def diurnal(traffic: Traffic, client: str, per_second: float, *, sdk: bool = False) -> None:
    """As `poisson`, with a quiet night and a busy afternoon: the rate swings by 80 % around its mean."""
    chance = traffic.chance(client)

    def arrive() -> None:
        now = traffic.loop.now
        if now >= traffic.until:
            return
        swing = 1 + 0.8 * sin(2 * pi * (now % DAY / DAY - 0.375))
        if chance.random() < swing / 1.8:
            traffic.call(query(client, chance), sdk=sdk)
        traffic.loop.after(chance.expovariate(1.8 * per_second), arrive)

    traffic.loop.after(chance.expovariate(1.8 * per_second), arrive)


def bursts(traffic: Traffic, client: str, per_second: float, *, sdk: bool = False) -> None:
    """Agents that fan out: 5 to 60 requests at once, `per_second` requests on average."""
    chance = traffic.chance(client)
    mean = 32.5

    def arrive() -> None:
        if traffic.loop.now >= traffic.until:
            return
        for _ in range(chance.randint(5, 60)):
            traffic.call(query(client, chance), sdk=sdk)
        traffic.loop.after(chance.expovariate(per_second / mean), arrive)

    traffic.loop.after(chance.expovariate(per_second / mean), arrive)


def agents(traffic: Traffic, client: str, count: int, think: float, *, sdk: bool = True) -> None:
    """Loops that ask, think and ask again; after an error they think as long."""
    for number in range(count):
        name = f"{client}-{number + 1}"
        _agent(traffic, name, traffic.chance(name), think, sdk)


def _agent(traffic: Traffic, name: str, chance: Random, think: float, sdk: bool) -> None:
    def ask() -> None:
        if traffic.loop.now < traffic.until:
            traffic.call(query(name, chance), sdk=sdk, done=rest)

    def rest(_: Call) -> None:
        traffic.loop.after(chance.expovariate(1 / think), ask)

    traffic.loop.after(think * chance.random(), ask)


def talks(traffic: Traffic, client: str, per_second: float) -> None:
    """Conversations of 1 to 200 turns whose prompts grow, `per_second` requests on average."""
    chance = traffic.chance(client)
    mean = 20.0  # turns, of an exponential law cut at 200

    def begin() -> None:
        if traffic.loop.now >= traffic.until:
            return
        turns = min(200, 1 + int(chance.expovariate(1 / mean)))
        name = f"{client}-{chance.getrandbits(32):08x}"
        _talk(traffic, name, Random(name), turns)
        traffic.loop.after(chance.expovariate(per_second / (mean + 1)), begin)

    traffic.loop.after(chance.expovariate(per_second / (mean + 1)), begin)


def _talk(traffic: Traffic, name: str, chance: Random, turns: int) -> None:
    left, grown = turns, 0

    def say() -> None:
        nonlocal left, grown
        if left and traffic.loop.now < traffic.until:
            left, grown = left - 1, grown + 250
            said = query(name.partition("-")[0], chance, name, grown)
            traffic.call(said, sdk=True, done=listen)

    def listen(_: Call) -> None:
        traffic.loop.after(chance.expovariate(1 / 30.0), say)

    say()


def herd(traffic: Traffic, client: str, at: float, count: int, *, sdk: bool = True) -> None:
    """Everyone at the same moment."""
    chance = traffic.chance(client)

    def arrive() -> None:
        for number in range(count):
            traffic.call(query(f"{client}-{number + 1}", chance), sdk=sdk)

    traffic.loop.at(at, arrive)
