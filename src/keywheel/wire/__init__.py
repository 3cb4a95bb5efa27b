"""Bytes to values and back: requests, streams, model lists, and what upstream answers mean. Pure, like `core`."""
