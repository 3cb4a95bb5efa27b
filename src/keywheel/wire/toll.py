"""What of a request could cost money or lead elsewhere, and is therefore taken out before it is sent.

Allow-lists: a plugin or tool that is not known to be free of charge does not pass. What was taken out is
named, so that nobody wonders where it went. The upstream's own `provider` preferences pass unchanged: they
choose among the endpoints of one model, whose price is known.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from msgspec import Raw, Struct
from msgspec.json import Decoder

from keywheel.wire.members import Fields, value

# Fallback is done here: the upstream's own could lead to a paid model.
FALLBACK = ("models", "route", "fallbacks")

# Another destination or key (requirement C14); a stored preset may name another model; a paid web search.
REFUSED = ("api_key", "api_base", "base_url", "preset", "web_search_options")

FREE_PLUGINS = frozenset({"context-compression", "response-healing"})
FREE_PARSERS = frozenset(
    {"cloudflare-ai", "pdf-text"}
)  # the default, mistral-ocr, is billed by page
NATIVE_PARSER = "native"  # the model reads the file itself

# Carried out by the client, or by the upstream without a charge. All other server tools are billed or unknown.
FREE_TOOLS = frozenset(
    {
        "function", "custom", "namespace", "local_shell", "apply_patch", "computer_use_preview",
        "openrouter:datetime", "openrouter:tool_search",
    }
)  # fmt: skip
FREE_TOOL_FAMILIES = ("bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_")
FREE_CHOICES = frozenset(
    {"auto", "any", "none", "required", "tool", "function", "custom", "allowed_tools"}
)


_SUSPECT = frozenset({*FALLBACK, *REFUSED, "plugins", "tools", "tool_choice"})


class _Parser(Struct):
    engine: str | None = None


class _Plugin(Struct):
    id: str = ""
    enabled: bool | None = None
    pdf: _Parser | None = None

    @property
    def label(self) -> str:
        return self.id

    @property
    def reads_files(self) -> bool:
        """Whether it turns files into text at no charge."""
        engine = self.pdf.engine if self.pdf else None
        return self.id == "file-parser" and self.enabled is not False and engine in FREE_PARSERS


class _Tool(Struct):
    type: str | None = None
    name: str | None = None

    @property
    def label(self) -> str:
        return self.type or ""


class _Named(Protocol):
    @property
    def label(self) -> str: ...


Entry = TypeVar("Entry", bound=_Named)

_RAWS = Decoder(list[Raw] | None)
_PLUGINS = Decoder(list[_Plugin] | None)
_TOOLS = Decoder(list[_Tool] | None)
_CHOICE = Decoder(str | _Tool | None)


def pay_no(fields: Fields) -> tuple[Fields, tuple[str, ...]]:
    """The members that may be sent, and what was taken out by name. Raises InvalidRequest."""
    if _SUSPECT.isdisjoint(fields):
        return fields, ()
    kept = {name: raw for name, raw in fields.items() if name not in (*FALLBACK, *REFUSED)}
    plugins = _sift(kept, "plugins", _PLUGINS, _is_free_plugin)
    tools = _sift(kept, "tools", _TOOLS, _is_free_tool)
    dropped = [name for name in REFUSED if name in fields]
    dropped += [f"plugins.{plugin.label}" for plugin in plugins]
    dropped += [f"tools.{tool.label}" for tool in tools]
    if _is_lost(kept, tools):
        del kept["tool_choice"]
        dropped.append("tool_choice")
    return kept, tuple(dropped)


def reads_files(fields: Fields) -> bool:
    """Whether the request brings a parser that lets any model read its files at no charge."""
    return any(plugin.reads_files for plugin in value(fields, "plugins", _PLUGINS) or ())


def _sift(
    fields: Fields,
    name: str,
    decoder: Decoder[list[Entry] | None],
    is_free: Callable[[Entry], bool],
) -> list[Entry]:
    """Leave in a list only what is free; return the rest."""
    entries = value(fields, name, decoder) or []
    costly = [entry for entry in entries if not is_free(entry)]
    if not costly:
        return []
    raws: list[Raw] = value(fields, name, _RAWS) or []
    free = [bytes(raw) for raw, entry in zip(raws, entries, strict=True) if is_free(entry)]
    if free:
        fields[name] = Raw(b"[" + b",".join(free) + b"]")
    else:
        del fields[name]
    return costly


def _is_free_plugin(plugin: _Plugin) -> bool:
    """An entry that switches a plugin off is free too: it may overrule the account's default."""
    if plugin.enabled is False or plugin.id in FREE_PLUGINS or plugin.reads_files:
        return True
    return bool(plugin.id == "file-parser" and plugin.pdf and plugin.pdf.engine == NATIVE_PARSER)


def _is_free_tool(tool: _Tool) -> bool:
    """Anthropic's client tools may leave out their type."""
    kind = tool.type
    return kind is None or kind in FREE_TOOLS or kind.startswith(FREE_TOOL_FAMILIES)


def _is_lost(fields: Fields, gone: list[_Tool]) -> bool:
    """Whether `tool_choice` asks for a tool that may not be used, or for any when none is left."""
    choice = value(fields, "tool_choice", _CHOICE)
    if choice is None:
        return False
    if gone and "tools" not in fields:
        return True
    if isinstance(choice, str):
        return False
    named = choice.name is not None and choice.name in {tool.name for tool in gone}
    return named or choice.type not in FREE_CHOICES
