"""The models of the simulated service: facts of a real list, and what routing needs of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

# Names as the service spells them where title case would not do.
PROVIDERS = {
    "nvidia": "Nvidia",
    "google": "Google AI Studio",
    "openai": "OpenInference",
    "anthropic": "Anthropic",
    "deepseek": "DeepSeek",
    "z-ai": "Z.AI",
    "qwen": "Alibaba",
    "meta-llama": "DeepInfra",
    "openrouter": "OpenRouter",
}
PACKAGE = "keywheel.sim"
UNBOUNDED = 1 << 40  # a context nobody reaches


@dataclass(frozen=True, slots=True)
class Model:
    """What routing must know of one entry. Prices are USD per token, 0.0 for a router's."""

    id: str
    slug: str  # the dated, permanent name
    provider: str
    free: bool
    router: bool
    context: int
    max_output: int
    parameters: frozenset[str]
    images: bool
    text_only: bool  # answers in text and nothing else
    reasons: bool
    reasoning_mandatory: bool
    prompt_price: float
    completion_price: float
    row: Mapping[str, Any] = field(repr=False, hash=False, compare=False)  # as served
    embeds: bool = False  # answers in vectors

    @property
    def suffix(self) -> str:
        """The variant with its colon, as `:free`; empty for the plain model."""
        return self.id[len(self.id.partition(":")[0]) :]

    @property
    def alias(self) -> str | None:
        """The id of the model that this entry is only another name of."""
        target: Mapping[str, str] = self.row.get("alias_target") or {}
        return target.get("slug")

    @property
    def tools(self) -> bool:
        """Whether an endpoint of this model takes tools."""
        return "tools" in self.parameters

    @property
    def json(self) -> bool:
        """Whether an endpoint of this model honours `response_format`."""
        return not self.parameters.isdisjoint({"response_format", "structured_outputs"})


@cache
def fixture_models() -> tuple[Model, ...]:
    """The bundled list (2026-08-16, an excerpt) in the order served, and behind it a free model that embeds.

    That one's entry is put together from what is public about it.
    """
    rows = msgspec.json.decode(files(PACKAGE).joinpath("models.json").read_bytes())
    return tuple(model_of(row) for row in rows)


def model_of(row: Mapping[str, Any]) -> Model:
    """Read one entry of `GET /models`."""
    top: dict[str, Any] = row["top_provider"]
    reasoning: dict[str, Any] = row.get("reasoning") or {}
    prompt, completion = (float(row["pricing"][side]) for side in ("prompt", "completion"))
    contexts = (row["context_length"], top.get("context_length"))
    return Model(
        id=row["id"],
        slug=row["canonical_slug"],
        provider=provider_of(row["id"]),
        free=prompt == 0 and completion == 0,
        router=row["id"].startswith("openrouter/"),
        context=min((size for size in contexts if size), default=UNBOUNDED),
        max_output=top.get("max_completion_tokens") or UNBOUNDED,
        parameters=frozenset(row["supported_parameters"]),
        images="image" in row["architecture"]["input_modalities"],
        text_only=row["architecture"]["output_modalities"] == ["text"],
        reasons=bool(reasoning.get("mandatory") or reasoning.get("default_enabled")),
        reasoning_mandatory=bool(reasoning.get("mandatory")),
        prompt_price=max(0.0, prompt),
        completion_price=max(0.0, completion),
        row=row,
        embeds="embeddings" in row["architecture"]["output_modalities"],
    )


def provider_of(model: str) -> str:
    """The provider's name for a model id."""
    author = model.lstrip("~").partition("/")[0]
    return PROVIDERS.get(author) or author.replace("-", " ").title()
