"""Why the service does not route a request to an endpoint."""

from keywheel.sim.accounts import Ledger
from keywheel.sim.endpoints import Endpoint
from keywheel.sim.kinds import Kind
from keywheel.sim.rulings import Ask


def obstacle(endpoint: Endpoint, ledger: Ledger, ask: Ask) -> Kind | None:
    """The first thing in the way: gates and privacy, then what the endpoint cannot do.

    Words from a model of vectors, or the reverse: documented as 400, in no known words.
    """
    if ask.embeddings is not endpoint.model.embeds:
        return Kind.BAD_MODEL
    return _restricted(endpoint, ledger, ask) or _incapable(endpoint, ask)


def _restricted(endpoint: Endpoint, ledger: Ledger, ask: Ask) -> Kind | None:
    if endpoint.behaviour.harness_only:
        return Kind.HARNESS
    if ledger.hides(endpoint.model.id):
        return Kind.PRIVACY
    if ask.deny_collection and endpoint.model.free:
        return Kind.DATA_POLICY  # usually all of the free pool
    return None


def _incapable(endpoint: Endpoint, ask: Ask) -> Kind | None:
    model = endpoint.model
    if ask.tools and not model.tools:
        return Kind.NO_TOOLS
    if ask.images and not model.images:
        return Kind.NO_IMAGES
    if ask.require_parameters and ask.json and not model.json:
        return Kind.NO_PARAMETERS
    if ask.prompt_tokens + (ask.max_tokens or 0) > endpoint.context:
        return Kind.CONTEXT
    return Kind.REASONING if ask.reasoning_off and model.reasoning_mandatory else None
