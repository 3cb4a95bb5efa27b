"""Which models fit an ask, and in which order: the formula J of routing rule A.4.

    J(m) = ln(2 s + T̂(m) + 30 s · (1 - p̂)/p̂) + rank(m) · ln σ          smallest first

In one sentence: a model one place lower in the list wins only if it is expected to be σ times faster to an
answer, where a failure costs 30 s.
What was learnt fades with a half-life, so a model that went bad comes back by being forgotten.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, inf, log, sqrt
from typing import NamedTuple

from keywheel.core.policy import Choice
from keywheel.core.tokens import Ratio
from keywheel.core.types import Ask

FLOOR = 2.0  # seconds inside the logarithm: below it a difference is not felt
# What is expected of a model before it was seen; less time and fewer failures where the others do better.
PRIOR_TIME = 6.0  # seconds to an answer
PRIOR_LOOKS = 3.0
PRIOR_BAD = 0.1  # share of failures …
PRIOR_TRIES = 10.0  # … in so many requests
PRIOR_OUTPUT = 400.0  # tokens of an answer when nothing is known
BUCKETS = (1_000, 8_000)  # estimated prompt tokens at which time to first token is kept apart
P95 = 1.645  # standard deviations of a normal distribution
INSTANT = 0.05  # seconds; a shorter span times the network, not the model
START, CAP, BACKOFF = 8.0, 64.0, 0.7  # requests at once per model: +1 on success, ×0.7 when crowded
SHORTEST = 1e-3  # seconds, tokens: what is measured as less counts as this
FADE_STEP = 5.0  # seconds between two steps of forgetting; a step is 0.2 % of a half-life of 30 min
NEWEST = 0.35  # share of the latest answer in `surprise`: five of them make nine tenths of it
FORGOTTEN = 1e-6  # looks below which nothing is known any more


def bucket(tokens: int) -> int:
    """The size class of a prompt."""
    return bisect_right(BUCKETS, tokens)


@dataclass(slots=True)
class Mean:
    """A mean of logarithms with its spread, fading with time."""

    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take one look."""
        look = log(value) if value > SHORTEST else log(SHORTEST)
        self.weight += 1.0
        self.total += look
        self.squares += look * look

    def fade(self, factor: float) -> None:
        """Let what was seen count less."""
        self.weight *= factor
        if self.weight < FORGOTTEN:
            self.weight = self.total = self.squares = 0.0
            return
        self.total *= factor
        self.squares *= factor

    @property
    def mean(self) -> float:
        """The geometric mean; only with weight."""
        return exp(self.total / self.weight)

    @property
    def p95(self) -> float:
        """The 95th percentile of a log-normal with this mean and spread; only with weight."""
        centre = self.total / self.weight
        variance = max(0.0, self.squares / self.weight - centre * centre)
        return exp(centre + P95 * sqrt(variance))


@dataclass(slots=True)
class Learnt:
    """What experience says about one model."""

    good: float = 0.0
    bad: float = 0.0
    ttft: tuple[Mean, Mean, Mean] = field(default_factory=lambda: (Mean(), Mean(), Mean()))
    speed: Mean = field(default_factory=Mean)  # tokens a second after the first
    output: Mean = field(default_factory=Mean)  # tokens of an answer
    ratio: Ratio = field(default_factory=Ratio)  # its tokens to our estimates of them
    prior: float = log(PRIOR_TIME)  # ln of the seconds expected before any look
    prior_bad: float = PRIOR_BAD
    surprise: float = 0.0  # ln of how much longer than usual the latest answers took
    limit: float = START  # requests at once
    in_flight: int = 0
    at: float = 0.0

    def fade(self, now: float, half_life: float) -> None:
        """Forget what time has made old, in steps."""
        if now - self.at < FADE_STEP:
            return
        factor = 0.5 ** ((now - self.at) / half_life)
        self.at = now
        self.good *= factor
        self.bad *= factor
        self.surprise *= factor
        for mean in (*self.ttft, self.speed, self.output):
            mean.fade(factor)

    def answered(self, tokens: int, ttft: float, total: float, tokens_out: int | None) -> None:
        """Learn from an answer."""
        self.good += 1.0
        self._compare(tokens, total, tokens_out)
        if tokens_out:
            self.output.add(tokens_out)
            if total - ttft > INSTANT:
                self.speed.add(tokens_out / (total - ttft))
            elif self.speed.weight:
                # a plain answer shows no first token; what its tokens took was no waiting
                ttft = max(INSTANT, total - tokens_out / self.speed.mean)
        self.ttft[bucket(tokens)].add(ttft)
        if self.limit < CAP and self.in_flight + 1 >= self.limit / 2:
            self.limit = min(CAP, self.limit + 1)

    def failed(self, tokens: int, elapsed: float | None) -> None:
        """Learn from a failure; `elapsed` only where the time itself was the failure."""
        self.bad += 1.0
        if elapsed is not None:
            self._compare(tokens, elapsed, None)
            self.ttft[bucket(tokens)].add(elapsed)

    def _compare(self, tokens: int, total: float, tokens_out: int | None) -> None:
        """Hold an answer against what was usual. Means of many looks move slowly; a model that turned slow must
        lose its traffic within a few requests."""
        usual = self._measured(tokens, tokens_out or 0)
        if usual is not None and total > 0:
            self.surprise += NEWEST * (log(total / usual) - self.surprise)

    def shrink(self) -> None:
        """The upstream is crowded: fewer requests at once."""
        self.limit = max(1.0, self.limit * BACKOFF)

    def expected(self, ask: Ask) -> float:
        """Seconds to a full answer, between the prior and what was measured; longer while it is unusually slow."""
        looks = self._looks(ask.tokens).weight
        measured = self._measured(ask.tokens, ask.reply_tokens)
        if measured is None:
            return exp(self.prior)
        lift = self.surprise if self.surprise > 0 else 0.0
        known = PRIOR_LOOKS * self.prior + looks * log(measured)
        return exp(known / (PRIOR_LOOKS + looks) + lift)

    def answer(self, ask: Ask) -> float:
        """Seconds to an answer as they are felt: with the floor, and longer by the crowd that is served already."""
        return FLOOR + self.expected(ask) * (1.0 + self.in_flight / self.limit)

    @property
    def odds(self) -> float:
        """Failures to be expected for each success: (1 - p̂) / p̂."""
        expected = PRIOR_TRIES * self.prior_bad
        return (expected + self.bad) / (PRIOR_TRIES - expected + self.good)

    def typical(self) -> tuple[float, float]:
        """Looks, and ln of the usual seconds to an answer of usual length times these looks."""
        measured = self._measured(0, 0)
        if measured is None:
            return 0.0, 0.0
        looks = self._looks(0).weight
        return looks, looks * log(measured)

    def _looks(self, tokens: int) -> Mean:
        """What was seen of prompts of this size, or of the size that was seen most."""
        seen = self.ttft[bucket(tokens)]
        return seen if seen.weight else max(self.ttft, key=lambda mean: mean.weight)

    def _measured(self, tokens: int, reply_tokens: int) -> float | None:
        """The usual seconds to an answer of at most so many tokens (0: of usual length); None before any look."""
        seen = self._looks(tokens)
        if not seen.weight:
            return None
        speed, output = self.speed, self.output
        if not speed.weight:
            return seen.mean
        usual = output.mean if output.weight else PRIOR_OUTPUT
        length = reply_tokens if 0 < reply_tokens < usual else usual
        return seen.mean + length * exp(-speed.total / speed.weight)

    def ttft_mean(self, tokens: int) -> float | None:
        """The usual time to first content, None before the first look."""
        seen = self.ttft[bucket(tokens)]
        return seen.mean if seen.weight else None

    def ttft_p95(self, tokens: int) -> float | None:
        """The 95th percentile of the time to first content, None before the first look."""
        seen = self.ttft[bucket(tokens)]
        return seen.p95 if seen.weight else None


def share_prior(all_learnt: Sequence[Learnt]) -> None:
    """Expect of what was not seen that it does as the others do, so that a newcomer gets its turn at its rank, and a
    forgotten model too; but never worse than PRIOR_TIME and PRIOR_BAD."""
    looks, seconds = PRIOR_LOOKS, PRIOR_LOOKS * log(PRIOR_TIME)
    bad, tries = PRIOR_BAD * PRIOR_TRIES, PRIOR_TRIES
    for learnt in all_learnt:
        seen, total = learnt.typical()
        looks, seconds = looks + seen, seconds + total
        bad, tries = bad + learnt.bad, tries + learnt.good + learnt.bad
    prior, prior_bad = min(log(PRIOR_TIME), seconds / looks), min(PRIOR_BAD, bad / tries)
    for learnt in all_learnt:
        learnt.prior, learnt.prior_bad = prior, prior_bad


def step(choice: Choice) -> float:
    """ln σ: what one place in the list is worth."""
    if choice.strategy == "balanced":
        return log(choice.preference_step)
    return 0.0 if choice.strategy == "fastest" else inf


class Score(NamedTuple):
    """J with what it is made of: `total` = ln(`answer` + `failures`) + `place`; the smallest total is best.

    `answer`: seconds to an answer, the floor and the crowd included. `failures`: seconds that failures are expected to
    cost. `place`: what the `rank` in the list costs. Where the list alone decides, `total` is the rank, and nothing
    was weighed.
    """

    total: float
    answer: float
    failures: float
    place: float
    rank: int


def weigh(learnt: Learnt, rank: int, ask: Ask, choice: Choice) -> Score:
    """J of a model at a place, with its parts; equal totals go by the place."""
    worth = step(choice)
    if worth == inf:
        return Score(float(rank), 0.0, 0.0, 0.0, rank)
    answer, failures = learnt.answer(ask), choice.failure_cost * learnt.odds
    place = rank * worth
    return Score(log(answer + failures) + place, answer, failures, place, rank)


def score(learnt: Learnt, rank: int, ask: Ask, choice: Choice) -> float:
    """J of a model at a place; smaller is better."""
    return weigh(learnt, rank, ask, choice).total
