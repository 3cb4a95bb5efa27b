"""Classification is total and fast: any status, headers and bytes have a verdict in bounded time."""

import json
import os
import random
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keywheel.core.types import Verdict
from keywheel.wire.faults import Phase, Reply, judge
from keywheel.wire.moments import refused_moments
from keywheel.wire.patterns import UNSEEN
from tests.wire.replying import NOON, RECORDED, envelope

FUZZ = settings(
    max_examples=int(os.environ.get("KEYWHEEL_FUZZ_EXAMPLES", "300")),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
WORDS = st.sampled_from([
    "error", "message", "code", "metadata", "error_type", "limit_source", "raw", "headers", "choices", "response",
    "availability", "type", "Retry-After", "X-RateLimit-Reset", "X-RateLimit-Limit", "failed_routing_step", "reason",
    "retry_after_seconds", "flagged_input", "server_error", "openrouter_free_tier_daily", "temporarily_unavailable",
    "429", "-1", "1e999", "NaN",
])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.binary(max_size=40) | VALUES.map(
    lambda value: json.dumps(value).encode(errors="surrogatepass")
)


def judged(answer: Reply) -> Verdict | None:
    verdict = judge(answer, now=NOON)
    if verdict:
        assert not UNSEEN.search(verdict.message)
        assert len(verdict.message) <= 300
        assert verdict.until is None or NOON < verdict.until < NOON + 33 * 86_400
    for sentence in refused_moments(answer.headers, answer.body, NOON):
        assert not UNSEEN.search(sentence)
    return verdict


@FUZZ
@given(
    st.builds(
        Reply,
        st.sampled_from(Phase),
        st.sampled_from([200, 400, 402, 403, 404, 413, 429, 500, 502, 503, 529]) | st.integers(),
        st.dictionaries(st.sampled_from(["retry-after", "date", "x-ratelimit-reset"]), st.text(max_size=9)),
        BODIES,
    )
)  # fmt: skip
def test_every_answer_has_a_verdict(answer: Reply) -> None:
    verdict = judged(answer)
    if answer.phase is Phase.HEADERS:
        assert (verdict is None) == (answer.status == 200)


def mutate(body: bytes, chance: random.Random) -> bytes:
    """Cut a body, change a byte of it, or put something odd in the place of one of its figures and words."""
    at = chance.randrange(len(body))
    odd = chance.choice(
        [b"null", b"[]", b"{}", b"-1", b"1e999", b'"\\ud800"', b"9" * 5_000, b"true", b'"x"']
    )
    return chance.choice(
        [
            body[:at],
            body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :],
            body[:at] + body[at:].replace(b"0", odd, 1),
            body[:at] + body[at:].replace(b'": "', b'": ' + odd + b', "', 1),
        ]
    )


def test_spoilt_recordings_still_have_a_verdict() -> None:
    for path in sorted(RECORDED.glob("*.json")):
        case = json.loads(path.read_text())
        body, chance = json.dumps(case["body"]).encode(), random.Random(path.stem)
        for _ in range(5):
            judged(Reply(Phase(case["phase"]), case["status"], {}, mutate(body, chance)))


HOSTILE = (
    "a", "1,", " ", "\n", "\\", '"', "[", "{", "<", "Bearer ", "sk-or-", "user_", "resets ", "exceeds the ", "\x01",
    "maximum context length ", "context length 1", "budget of $1", "free-models-per-", "no endpoints found that ",
)  # fmt: skip


def test_judging_64_kib_takes_a_few_passes_over_their_bytes_whatever_they_are() -> None:
    for part in HOSTILE:
        text = part * (60_000 // len(json.dumps(part)[1:-1]))
        for status in (400, 413, 429):
            body = json.dumps(envelope(status, text[:30_000], {"raw": text[:30_000]})).encode()
            answer = Reply(Phase.HEADERS, status, {}, body[: 64 * 1024])
            took, one_pass = _times(answer)
            assert took < 4 * one_pass, (part, status)


def _times(answer: Reply) -> tuple[float, float]:
    """CPU seconds of judging it, and of one pass of Python over its bytes: the least of five, taken in turn."""
    judging, passing = list[float](), list[float]()
    for _ in range(5):
        began = time.thread_time()
        judge(answer, now=NOON)
        judged_at = time.thread_time()
        assert sum(1 for _ in answer.body) == len(answer.body)
        judging.append(judged_at - began)
        passing.append(time.thread_time() - judged_at)
    return min(judging), min(passing)
