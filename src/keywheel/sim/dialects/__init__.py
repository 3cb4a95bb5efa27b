"""The APIs of the simulated service that cost a request, by name: one row each."""

from keywheel.sim.dialects.chat import CHAT
from keywheel.sim.dialects.completions import COMPLETIONS
from keywheel.sim.dialects.dialect import Dialect
from keywheel.sim.dialects.embeddings import EMBEDDINGS
from keywheel.sim.dialects.messages import MESSAGES
from keywheel.sim.dialects.responses import RESPONSES

DIALECTS: dict[str, Dialect] = {
    "chat": CHAT,
    "completions": COMPLETIONS,
    "responses": RESPONSES,
    "messages": MESSAGES,
    "embeddings": EMBEDDINGS,
}

__all__ = ["DIALECTS", "Dialect"]
