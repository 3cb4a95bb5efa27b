"""A month of figures made up, that ends with the example's state; `/admin/history`'s own code adds them up."""

import math
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qs

from keywheel.gateway.history import HOUR, history
from keywheel.stores import Figures
from tests.dashboard.stage import Json

DAYS = 30
# Attempts on a day before today, what each key asked, and how models answered: share failed, seconds, seconds to the
# first content.
KEYS = {"primary": 24, "secondary": 17, "tertiary": 640, "quaternary": 31}
MODELS = {
    "a/small-8b:free": (0.3, 0.07, 1.6, 0.44),
    "b/large-70b:free": (0.5, 0.02, 3.4, 0.71),
    "c/vision-27b:free": (0.2, 0.04, 2.5, 1.02),
}
BUSY = range(6, 22)  # hours of a day in which somebody asks


def told(rows: Iterable[Figures], query: str, now: float) -> Json:
    """What a gateway that keeps these rows answers."""
    asked = parse_qs(query)
    since, by = float(asked["since"][0]), asked["by"][0]
    within = [row for row in rows if since // HOUR <= row.hour <= now // HOUR]
    return history(within, by, since, now)


def month(state: Json) -> list[Figures]:
    """29 days, and today as the state tells it: what its keys and models have sent lies in the last hour."""
    today = int(state["now"] // 86_400) * 24
    return [*_past_days(today), *_today(state, today + int(state["now"] % 86_400 // HOUR))]


def _past_days(today: int) -> Iterator[Figures]:
    for day in range(1, DAYS):
        for key, usual in KEYS.items():
            of_day = usual * (0.75 + 0.35 * math.sin(day * 1.7) * math.cos(day / 3))
            for n, hour in enumerate(BUSY):
                wave = 1 + 0.8 * math.sin(n / 2.3)
                for model, (share, *_) in MODELS.items():
                    attempts = round(of_day * share * wave / len(BUSY) + 0.45 * math.sin(n + day))
                    if attempts > 0:
                        yield _row(today - 24 * day + hour, key, model, attempts)


def _today(state: Json, hour: int) -> Iterator[Figures]:
    """Each key's attempts, shared out among the models so that theirs come out, too."""
    left = {model["id"]: model["attempts"] for model in state["models"]}
    for key in state["keys"]:
        due = key["attempts"]
        for model in MODELS:
            if taken := min(due, left[model]):
                left[model] -= taken
                due -= taken
                yield _row(hour, key["name"], model, taken)


def _row(hour: int, key: str, model: str, attempts: int) -> Figures:
    _, share, seconds, first = MODELS[model]
    failed = int(attempts * share + 0.45 + 0.5 * math.sin(hour * 7.3))
    fine = attempts - failed
    slow = 1 + 0.2 * math.sin(hour + len(key))
    return Figures(
        hour, key, model,
        attempts=attempts, succeeded=fine, failed=failed, tokens_in=310 * fine, tokens_out=190 * fine,
        latency=seconds * slow * attempts, ttft=first * slow * fine, first=fine,
    )  # fmt: skip
