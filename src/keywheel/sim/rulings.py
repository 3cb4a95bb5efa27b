"""The values that go into the world and come out: asked, decided, remembered, told."""

from dataclasses import dataclass
from typing import NamedTuple

from keywheel.sim.catalogue import Model, provider_of
from keywheel.sim.kinds import Kind


@dataclass(frozen=True, slots=True)
class Ask:
    """What the service must know of a request in order to decide about it."""

    models: tuple[str, ...] = ()  # none: the scenario's default
    prompt_tokens: int = 16
    max_tokens: int | None = None
    stream: bool = False
    tools: bool = False
    images: bool = False
    json: bool = False
    require_parameters: bool = False
    reasoning_off: bool = False
    deny_collection: bool = False
    flaw: Kind | None = None  # the request itself cannot be served
    embeddings: bool = False  # vectors are wanted, not words


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What happens to one attempt: everything a body needs, and nothing rendered."""

    kind: Kind
    at: float
    number: int  # counts the attempts of a world, so that ids differ and repeat with the seed
    stream: bool
    key: str  # label, never the key
    account: str
    user_id: str  # "" when the caller is unknown
    asked: str  # the model id as asked
    model: Model | None  # the one chosen, None when it does not exist
    served_as: str  # how an answer names it
    seconds: float  # until the first token, or until the refusal; infinite: never
    tokens_per_second: float
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    finish: str
    cost: float = 0.0
    limit: int = 0
    reset: float | None = None  # UTC seconds
    retry_after: float | None = None  # seconds
    previous: tuple["Ruling", ...] = ()  # refusals of the models tried before, of `models[]`

    @property
    def model_name(self) -> str:
        """The id of the model chosen, or the one asked for where none was."""
        return self.model.id if self.model else self.asked

    @property
    def provider(self) -> str:
        """Who serves the model."""
        return self.model.provider if self.model else provider_of(self.asked)


class Note(NamedTuple):
    """One line of the journal."""

    at: float
    key: str
    account: str
    model: str
    kind: Kind
    stream: bool


@dataclass(frozen=True, slots=True)
class KeyView:
    """What `GET /key` and `GET /credits` tell about one key."""

    label: str
    user_id: str
    credits: float
    usage: float  # of the account, USD
    free_tier: bool
    used: int | None  # free requests today as shown; None: the field is absent
    limit: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The true state of a model at a moment, for policies that may know it."""

    full: bool
    ttft: float
    speed: float
    failing: float  # share of attempts that fail
