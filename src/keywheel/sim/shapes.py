"""The smallest sensible value that a JSON Schema allows."""

from collections.abc import Callable, Mapping
from typing import Any, cast

MAX_DEPTH = 12  # a schema may refer to itself
MAX_SIZE = 64  # items or characters, whatever a schema demands
Schema = Mapping[str, Any]

TEXTS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: Schema) -> Any:
    """A minimal instance: all named properties, the first of an enum, lower bounds kept.

    Patterns and conditions are not tried; what cannot be read becomes null.
    """
    return _instance(schema, schema, 0)


def _instance(schema: Any, root: Schema, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return None
    rules = cast("Schema", schema)
    for name in ("const", "default"):
        if name in rules:
            return rules[name]
    if "$ref" in rules:
        return _instance(_resolve(str(rules["$ref"]), root), root, depth + 1)
    options = _items(rules, "enum")
    if options:
        return options[0]
    for name in ("anyOf", "oneOf", "allOf"):
        for choice in _items(rules, name)[:1]:
            return _instance(choice, root, depth + 1)
    return MAKERS.get(_type(rules), _nothing)(rules, root, depth)


def _type(schema: Schema) -> str:
    kinds = _items(schema, "type")
    return str(kinds[0] if kinds else schema.get("type", "object"))


def _resolve(reference: str, root: Schema) -> Any:
    found: Any = root
    for part in reference.lstrip("#/").split("/"):
        if not isinstance(found, Mapping):
            return None
        table = cast("Schema", found)
        found = table.get(part.replace("~1", "/").replace("~0", "~")) if part else table
    return found


def _items(schema: Schema, name: str) -> list[Any]:
    value = schema.get(name)
    return cast("list[Any]", value) if isinstance(value, list) else []


def _count(schema: Schema, name: str) -> int:
    value = schema.get(name)
    return min(value, MAX_SIZE) if isinstance(value, int) else 0


def _object(schema: Schema, root: Schema, depth: int) -> Any:
    named = schema.get("properties")
    if not isinstance(named, Mapping):
        return {}
    properties = cast("Schema", named)
    wanted = properties if depth < MAX_DEPTH // 2 else map(str, _items(schema, "required"))
    return {name: _instance(properties.get(name), root, depth + 1) for name in wanted}


def _array(schema: Schema, root: Schema, depth: int) -> Any:
    return [_instance(schema.get("items"), root, depth + 1)] * _count(schema, "minItems")


def _string(schema: Schema, _root: Schema, _depth: int) -> Any:
    text = TEXTS.get(str(schema.get("format")), "simulated")
    text = text.ljust(_count(schema, "minLength"), ".")
    return text[: _count(schema, "maxLength")] if "maxLength" in schema else text


def _number(schema: Schema, _root: Schema, _depth: int) -> Any:
    above = schema.get("exclusiveMinimum")
    least = above + 1 if isinstance(above, int | float) else schema.get("minimum")
    return least if isinstance(least, int | float) else min(0, _count(schema, "maximum"))


def _boolean(_schema: Schema, _root: Schema, _depth: int) -> Any:
    return True


def _nothing(_schema: Schema, _root: Schema, _depth: int) -> Any:
    return None


MAKERS: dict[str, Callable[[Schema, Schema, int], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
    "integer": _number,
    "boolean": _boolean,
}
