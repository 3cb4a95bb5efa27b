"""The service's JSON: refusals, `GET /key`, `GET /credits`, models and their endpoints."""

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from math import ceil
from typing import Any
from uuid import UUID

from keywheel.sim.catalogue import Model
from keywheel.sim.dialects import DIALECTS
from keywheel.sim.kinds import Kind
from keywheel.sim.refusals import REFUSALS, Refusal, rate_limit
from keywheel.sim.replies import Headers, Reply, encode, generation_id, headers, json_reply
from keywheel.sim.requests import Request
from keywheel.sim.rulings import KeyView, Ruling

# Shapes of the edge, invented: only a script or a scenario that names them brings them.
EDGE = {
    Kind.EDGE_HTML: (
        520,
        b"text/html; charset=UTF-8",
        b"<!DOCTYPE html><html><head><title>520: Web server is returning an unknown error</title>"
        b"</head><body><h1>Error 520</h1></body></html>",
    ),
    Kind.EDGE_LIMIT: (429, b"text/plain; charset=UTF-8", b"error code: 1015"),
}
TOOL_CHOICES = ("auto", "none", "required", "function")
SINCE_JULY = ("limit_source", "remedy_hint")  # absent from bodies before 2026-07


def refuse(ruling: Ruling, request: Request, *, limit_source: bool = True) -> Reply:
    """The answer of a refused attempt. `limit_source=False`: as before 2026-07."""
    if ruling.kind in EDGE:
        status, content_type, page = EDGE[ruling.kind]
        edge = headers(content_type, ruling.number, [])
        return Reply(status, edge, ((0.0, page),), delay=ruling.seconds)
    row = REFUSALS[ruling.kind]
    found = error(row, ruling, request, limit_source=limit_source)
    body = DIALECTS[request.dialect].envelope(ruling, row, found)
    return json_reply(
        row.status, body, number=ruling.number, delay=ruling.seconds, extra=_extra(row, ruling)
    )


def error(
    row: Refusal, ruling: Ruling, request: Request, *, limit_source: bool = True
) -> dict[str, Any]:
    """The error object of a refusal, as chat completions have it."""
    metadata = row.metadata(ruling)
    if not limit_source:
        metadata = {name: value for name, value in metadata.items() if name not in SINCE_JULY}
    if ruling.previous:
        previous = (error(REFUSALS[each.kind], each, request) for each in ruling.previous)
        metadata["previous_errors"] = [
            _quoted(each, found) for each, found in zip(ruling.previous, previous, strict=True)
        ]
    text = (
        DIALECTS[request.dialect]
        .texts.get(ruling.kind, row.text)
        .format_map(words(ruling, request, limit_source=limit_source))
    )
    found: dict[str, Any] = {"message": text, "code": row.status}
    return found | {"metadata": metadata} if metadata else found


def words(ruling: Ruling, request: Request, *, limit_source: bool = True) -> dict[str, Any]:
    """What the texts of refusals are filled with."""
    model, slug = ruling.model_name, ruling.model.slug if ruling.model else ruling.asked
    digest = sha256(model.encode()).hexdigest()
    output = request.ask.max_tokens or 0
    prefix = "" if limit_source else "limit_rpm/"
    return {
        "model": model,
        "paid": model.partition(":")[0],
        "slug": slug,
        "provider": ruling.provider,
        "tool": request.tool,
        "limit": ruling.limit,
        "prompt": ruling.prompt_tokens,
        "output": output,
        "total": ruling.prompt_tokens + output,
        "tier": ". Add 10 credits to unlock 1000 free model requests per day"
        if ruling.limit <= 50
        else "-high-balance. ",
        "capacity": f"{prefix}{slug}/{UUID(digest[:32])}",
        "short_id": digest[:8],
        "key_hash": sha256(ruling.key.encode()).hexdigest()[:8],
        "reset": _instant(ruling.reset or 0.0),
    }


def key(view: KeyView) -> dict[str, Any]:
    """The body of `GET /key`, newest shape. The daily counter is left out where the view has none."""
    spending = {
        f"{kind}{period}": (view.usage or 0) if kind == "usage" else 0
        for kind in ("usage", "byok_usage")
        for period in ("", "_daily", "_weekly", "_monthly")
    }
    counter = {} if view.used is None else {"free_model_daily_requests": _counter(view)}
    data = {
        "label": view.label,
        "is_management_key": False,
        "is_provisioning_key": False,
        "limit": None,
        "limit_reset": None,
        "limit_remaining": None,
        "include_byok_in_limit": False,
        **spending,
        "is_free_tier": view.free_tier,
        "expires_at": None,
        "creator_user_id": view.user_id,
        "organization_id": None,
        "workspace_id": "00000000-0000-0000-0000-000000000000",
        "allowed_data_regions": ["global"],
        **counter,
        "budgets": [],
        "effective_budget": None,
        "rate_limit": {
            "requests": -1,
            "interval": "10s",
            "note": "This field is deprecated and safe to ignore.",
        },
    }
    return {"data": data}


def account_credits(view: KeyView) -> dict[str, Any]:
    """The body of `GET /credits`."""
    return {"data": {"total_credits": view.credits or 0, "total_usage": view.usage or 0}}


def model_list(models: Iterable[Model]) -> bytes:
    """The body of `GET /models`, encoded."""
    rows = [encode(model.row) for model in models]
    tail = f'],"total_count":{len(rows)},"links":{{"next":null}}}}'.encode()
    return b'{"data":[' + b",".join(rows) + tail


def model(row: Model) -> dict[str, Any]:
    """The body of `GET /model/{author}/{slug}`."""
    return {"data": row.row}


def endpoints(row: Model) -> dict[str, Any]:
    """The body of `GET /models/{author}/{slug}/endpoints`. Aliases and routers have none of their own."""
    shared = ("id", "name", "created", "description", "architecture")
    found = {name: row.row[name] for name in shared}
    return {"data": found | {"endpoints": [] if row.router or row.alias else [_endpoint(row)]}}


def _endpoint(row: Model) -> dict[str, Any]:
    """Healthy and without measurements, as captured for free models. The last four are of October 2026."""
    return {
        "name": f"{row.provider} | {row.slug}{row.suffix}",
        "model_id": row.slug,
        "model_name": row.row["name"],
        "context_length": row.row["context_length"],
        "pricing": row.row["pricing"],
        "provider_name": row.provider,
        "tag": row.provider.lower().replace(" ", "-"),
        "quantization": "unknown",
        "max_completion_tokens": row.row["top_provider"].get("max_completion_tokens"),
        "max_prompt_tokens": None,
        "supported_parameters": row.row["supported_parameters"],
        "status": 0,
        "uptime_last_5m": 100,
        "uptime_last_30m": 100,
        "uptime_last_1d": 100,
        "latency_last_30m": None,
        "throughput_last_30m": None,
        "supports_implicit_caching": False,
        "supports_tool_choice": dict.fromkeys(TOOL_CHOICES, row.tools),
        "supports_diarization": False,
        "native_tools": {},
        "service_tier": None,
    }


def _counter(view: KeyView) -> dict[str, int]:
    used = view.used or 0
    return {"used": used, "limit": view.limit, "remaining": max(0, view.limit - used)}


def _extra(row: Refusal, ruling: Ruling) -> Headers:
    found: Headers = []
    if row.limits:
        pairs = rate_limit(ruling).items()
        found += [(name.lower().encode(), value.encode()) for name, value in pairs]
    if ruling.retry_after is not None:
        found.append((b"retry-after", str(ceil(ruling.retry_after)).encode()))
    if row.generation:
        found.append((b"x-generation-id", generation_id(ruling.at, ruling.number).encode()))
    return found


def _quoted(ruling: Ruling, found: dict[str, Any]) -> dict[str, Any]:
    """An error as the answer of a later model quotes it."""
    return {
        "code": found["code"],
        "message": found["message"],
        "provider_name": ruling.provider,
        "raw": found.get("metadata", {}).get("raw", ""),
    }


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
