"""What an answer shows, and the questions that the classification asks about it.

A condition is a small function of the evidence; `faults` combines conditions into rules. Their names say
where something is looked for, so that the table of rules reads like its documentation.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from re import Pattern
from typing import TypeAlias, cast

from keywheel.wire.envelope import Envelope, Form

_WHOLE = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer, read. `status`: what the rules go by. `wrapped`: it came inside a 200.

    `restricted`: the ask itself sets a data policy.
    """

    status: int
    envelope: Envelope
    headers: Mapping[str, str]
    wrapped: bool = False
    restricted: bool = False

    def rate_limit(self, name: str) -> int | None:
        """A whole number out of `X-RateLimit-*`, sent as header or repeated in the body."""
        name = f"x-ratelimit-{name}"
        value = self.headers.get(name) or self.envelope.headers.get(name)
        figure = str(value).strip() if isinstance(value, str | int) else ""
        return int(figure) if _WHOLE.fullmatch(figure) else None


Condition: TypeAlias = Callable[[Evidence], bool]


# --- combining ---------------------------------------------------------------------------------------


def either(*conditions: Condition) -> Condition:
    """At least one of them holds."""
    return lambda seen: any(holds(seen) for holds in conditions)


def both(*conditions: Condition) -> Condition:
    """All of them hold."""
    return lambda seen: all(holds(seen) for holds in conditions)


# --- typed evidence ----------------------------------------------------------------------------------


def source(*names: str) -> Condition:
    """`metadata.limit_source` is one of these."""
    return lambda seen: seen.envelope.said("limit_source") in names


def reason(name: str) -> Condition:
    """`metadata.reason` is this."""
    return lambda seen: seen.envelope.said("reason") == name


def step(*names: str) -> Condition:
    """Routing ended at one of these steps."""
    return lambda seen: seen.envelope.said("failed_routing_step") in names


def filtered(seen: Evidence) -> bool:
    """Routing ended at some filter: the model is there, but not for this request."""
    return seen.envelope.said("failed_routing_step").startswith("Filter by ")


def available(*codes: str) -> Condition:
    """`availability.code` is one of these."""
    return lambda seen: seen.envelope.availability.get("code") in codes


def retryable(seen: Evidence) -> bool:
    """The upstream itself says that trying again can help."""
    return seen.envelope.availability.get("retryable") is True


def typed(*names: str) -> Condition:
    """`error_type` is one of these; a code that is one of its words counts where there is no type."""
    return lambda seen: (seen.envelope.type or seen.envelope.code) in names


def has_type(seen: Evidence) -> bool:
    """There is an `error_type`, known or not."""
    return bool(seen.envelope.type)


def code(*names: str) -> Condition:
    """The error's own code is one of these."""
    return lambda seen: seen.envelope.code in names


def metadata(*members: str) -> Condition:
    """One of these members of the metadata says something."""
    return lambda seen: any(seen.envelope.metadata.get(member) for member in members)


_PROVIDER_CODE = metadata("provider_code", "provider_error_code")


# --- the answer as a whole ---------------------------------------------------------------------------


def status(*wanted: int | range) -> Condition:
    """The status is one of these, or in one of these ranges."""
    codes = frozenset(
        number for part in wanted for number in (part if isinstance(part, range) else (part,))
    )
    return lambda seen: seen.status in codes


def wrapped(seen: Evidence) -> bool:
    """The error came inside a 200, so the edge and the platform did their part."""
    return seen.wrapped


def in_html(seen: Evidence) -> bool:
    """The body is a page, not an answer."""
    return seen.envelope.form is Form.HTML


def not_json(seen: Evidence) -> bool:
    """The body is a page or a text: someone between the platform and us wrote it."""
    return seen.envelope.form in (Form.HTML, Form.TEXT)


def restricted(seen: Evidence) -> bool:
    """The ask itself sets `provider.data_collection` or `zdr`."""
    return seen.restricted


def minute_spent(seen: Evidence) -> bool:
    """The rate headers are those of a free minute (at most 20) of which nothing is left."""
    limit, left = seen.rate_limit("limit"), seen.rate_limit("remaining")
    return limit is not None and limit <= 20 and not left


def day_spent(seen: Evidence) -> bool:
    """The rate headers are those of a free day (at least 50) of which nothing is left."""
    limit = seen.rate_limit("limit")
    return limit is not None and limit >= 50 and seen.rate_limit("remaining") == 0


# --- sentences ---------------------------------------------------------------------------------------


def says(*patterns: Pattern[str]) -> Condition:
    """The error's sentence matches."""
    return lambda seen: any(pattern.search(seen.envelope.message) for pattern in patterns)


def tells(pattern: Pattern[str]) -> Condition:
    """The error's sentence or the provider's own words match."""
    return lambda seen: bool(
        pattern.search(seen.envelope.message) or pattern.search(seen.envelope.raw)
    )


def says_only(pattern: Pattern[str]) -> Condition:
    """The error's sentence is nothing else."""
    return lambda seen: bool(pattern.fullmatch(seen.envelope.message))


def provider_shaped(seen: Evidence) -> bool:
    """A provider's refusal that the platform passes on, in whatever words."""
    said = seen.envelope
    if said.provider or said.raw or said.message == "Provider returned error":
        return True
    return _PROVIDER_CODE(seen)


def unattributed(seen: Evidence) -> bool:
    """Neither a type nor a provider stands behind the error."""
    return not (seen.envelope.type or provider_shaped(seen))


def previous_errors(seen: Evidence) -> bool:
    """Providers had been tried before; what they said is not about this answer."""
    tried = seen.envelope.metadata.get("previous_errors")
    return isinstance(tried, list) and bool(cast("list[object]", tried))
