"""The content of a request in all five dialects: its texts, its media, whose conversation it is.

One loose shape covers the messages of chat and Anthropic, the items of Responses and all their parts, since
text stands under the same few names everywhere. Fields that carry no text are skipped undecoded.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.json import Decoder
from msgspec.structs import astuple

from keywheel.core.tokens import PER_MESSAGE, estimate
from keywheel.errors import InvalidRequest
from keywheel.wire.members import Fields, value

MAX_MESSAGES = 1_000  # requirement C18
CUT = 1 << 16  # characters of a message that tell conversations apart

# What a part of this type asks of the model.
MEDIA = {
    "image_url": "image", "input_image": "image", "image": "image",
    "input_audio": "audio", "audio": "audio",
    "video_url": "video", "input_video": "video", "video": "video",
    "file": "file", "input_file": "file", "document": "file",
}  # fmt: skip
WRITTEN = frozenset({"text", "content"})  # sources of a document that are text already
SYSTEM = frozenset({"system", "developer"})


class Item(Struct):
    """A message, an item, a part, a function call: whatever may hold text."""

    type: str | None = None
    role: str | None = None
    name: str | None = None
    text: str | None = None
    refusal: str | None = None
    thinking: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    content: "str | list[Item] | Item | None" = None
    output: "str | list[Item] | Item | None" = None
    summary: "str | list[Item] | None" = None
    source: "str | Item | None" = None
    tool_calls: "list[Item] | None" = None
    function: "Item | None" = None
    function_call: "Item | None" = None
    arguments: Any = None
    input: Any = None
    data: Any = None


_PLAIN = len(Item.__struct_fields__) - 2  # empty fields of an item that has but two

Text = str | list[str | int | list[int] | Item]

_ITEMS = Decoder(list[Item] | None)
_INPUT = Decoder(str | list[Item] | None)
_TEXT = Decoder(Text | None)


@dataclass(slots=True)
class Prompt:
    """What a request says, collected piece by piece. `given`: tokens that came as token ids."""

    texts: list[str] = field(default_factory=list[str])
    media: set[str] = field(default_factory=set[str])
    messages: int = 0
    given: int = 0
    system: str = ""
    first: str = ""

    @property
    def tokens(self) -> float:
        """The estimate for everything collected. Media are not counted: nobody knows their size."""
        text = estimate("\n".join(self.texts))
        return text + self.messages * PER_MESSAGE + self.given

    @property
    def conversation(self) -> str | None:
        """A fingerprint of the first system and first user message; None without a user's text."""
        if not self.first:
            return None
        opening = f"{self.system[:CUT]}\0{self.first[:CUT]}"
        return blake2b(opening.encode(), digest_size=16).hexdigest()

    def add_messages(self, items: list[Item]) -> None:
        """Take messages or items in order."""
        for item in items:
            start = len(self.texts)
            self.add(item)
            self._remember(item.role, start)
        self.messages += len(items)

    def add_system(self, content: str | list[Item] | None) -> None:
        """Take instructions that stand outside the messages."""
        if content:
            start = len(self.texts)
            self._nest(content)
            self._remember("system", start)
            self.messages += 1

    def add_user(self, text: str) -> None:
        """Take a prompt that is one user message."""
        self.add_messages([Item(role="user", content=text)])

    def add_json(self, content: Any) -> None:
        """Take JSON that the model reads, such as tool schemas, as compact as it gets there."""
        self.texts.append(msgspec.json.encode(content).decode())

    def add_plain(self, content: Text) -> None:
        """Take texts without roles: strings, token ids, objects with content."""
        for piece in [content] if isinstance(content, str) else content:
            if isinstance(piece, str):
                self.texts.append(piece)
            elif isinstance(piece, Item):
                self.add(piece)
            else:
                self.given += 1 if isinstance(piece, int) else len(piece)

    def add(self, item: Item) -> None:
        """Take one item with everything in it."""
        if (
            astuple(item).count(None) == _PLAIN
        ):  # nearly all: a message or a part with nothing but a text
            text = item.text or item.content
            if isinstance(text, str) and (item.role or item.type == "text"):
                self.texts.append(text)
                return
        own = (item.name, item.text, item.refusal, item.thinking, item.reasoning)
        self.texts.extend(text for text in (*own, item.reasoning_content) if text)
        self.texts.extend(_plain(any_) for any_ in (item.arguments, item.input) if any_ is not None)
        for inner in (item.content, item.output, item.summary, item.tool_calls):
            self._nest(inner)
        self._nest(item.function)
        self._nest(item.function_call)
        self._add_media(item)

    def _add_media(self, item: Item) -> None:
        source = item.source
        if isinstance(source, Item) and source.type in WRITTEN:
            self._nest(source)
            if isinstance(source.data, str):
                self.texts.append(source.data)
        elif need := MEDIA.get(item.type or ""):
            self.media.add(need)

    def _nest(self, content: str | list[Item] | Item | None) -> None:
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, Item):
            self.add(content)
        else:
            for item in content or ():
                self.add(item)

    def _remember(self, role: str | None, start: int) -> None:
        """Keep the first text of the system and of the user: what was collected since `start`."""
        if role in SYSTEM and not self.system:
            self.system = "".join(self.texts[start:])
        elif role == "user" and not self.first:
            self.first = "".join(self.texts[start:])


def read_chat(fields: Fields, prompt: Prompt) -> None:
    """OpenAI's chat messages."""
    prompt.add_messages(_filled("messages", value(fields, "messages", _ITEMS)))


def read_anthropic(fields: Fields, prompt: Prompt) -> None:
    """Anthropic's messages, whose system prompt stands apart."""
    prompt.add_system(value(fields, "system", _INPUT))
    read_chat(fields, prompt)


def read_responses(fields: Fields, prompt: Prompt) -> None:
    """OpenAI's Responses: a text, or items."""
    prompt.add_system(value(fields, "instructions", _INPUT))
    content = value(fields, "input", _INPUT)
    if isinstance(content, str) and content:
        prompt.add_user(content)
    else:
        prompt.add_messages(_filled("input", content or None))


def read_completion(fields: Fields, prompt: Prompt) -> None:
    """OpenAI's legacy completions."""
    prompt.add_plain(_given("prompt", value(fields, "prompt", _TEXT)))


def read_embeddings(fields: Fields, prompt: Prompt) -> None:
    """Texts to embed."""
    prompt.add_plain(_given("input", value(fields, "input", _TEXT)))


def _filled(name: str, items: list[Item] | None) -> list[Item]:
    if not items:
        found = "missing" if items is None else "empty"
        raise InvalidRequest(f"`{name}` is {found}. Send at least one message.", param=name)
    if len(items) > MAX_MESSAGES:
        raise InvalidRequest(
            f"`{name}` holds {len(items)} messages. Send at most {MAX_MESSAGES}.", param=name
        )
    return items


def _given(name: str, content: Text | None) -> Text:
    if not content:
        found = "missing" if content is None else "empty"
        raise InvalidRequest(f"`{name}` is {found}. Send a text.", param=name)
    return content


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else msgspec.json.encode(content).decode()
