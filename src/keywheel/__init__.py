"""keywheel turns a handful of OpenRouter API keys into one dependable, free LLM endpoint."""

from keywheel.client import ApiStats, get_api_stats
from keywheel.errors import Error

__version__ = "0.1.0"
__all__ = ["ApiStats", "Error", "__version__", "get_api_stats"]
