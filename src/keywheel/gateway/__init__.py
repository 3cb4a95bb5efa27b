"""The OpenAI-compatible gateway: ASGI application, upstream client, guard."""
