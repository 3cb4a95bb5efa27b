"""`POST /completions`, OpenAI's legacy API: a prompt in, text out.

Reasoning takes its time and its tokens, but nothing documents a place for its text.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from keywheel.sim.composing import Answer, disconnected, disconnected_choice, upstream_error
from keywheel.sim.dialects.chat import Format, failed, identity, reasons, usage
from keywheel.sim.dialects.dialect import DONE, Beat, Dialect, plain_envelope
from keywheel.sim.kinds import Kind
from keywheel.sim.replies import encode
from keywheel.sim.requests import ABSENT, Body, Reasoning, Request, Wish, reader
from keywheel.sim.rulings import Ruling

NAME = "text_completion"  # of whole answers and of chunks
NO_PROMPT = ABSENT | {b'""'}


class _Body(Body):
    prompt: msgspec.Raw = msgspec.Raw()
    max_tokens: int | None = None
    response_format: Format | None = None
    reasoning: Reasoning | None = None


def _wish(body: _Body) -> Wish:
    raw, form = bytes(body.prompt), body.response_format or Format()
    return Wish(
        prompt=raw,
        max_tokens=body.max_tokens,
        form=form.type,
        schema=form.json_schema.schema if form.json_schema else None,
        reasoning_off=(body.reasoning or Reasoning()).off,
        flaw=Kind.NO_INPUT if raw in NO_PROMPT else None,
    )


def _choice(text: str, **fields: Any) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, **fields}


def _whole(ruling: Ruling, _: Request, told: Answer) -> dict[str, Any]:
    found = identity(ruling, NAME) | {"system_fingerprint": None}
    if ruling.kind is Kind.BREAK:
        text = "".join(told.content[: told.half])
        broken = _choice(text, finish_reason="error", error=disconnected_choice())
        return found | {"choices": [broken]}
    return found | {"choices": [_choice(told.text, **reasons(told))], "usage": usage(ruling)}


class _Stream:
    """See Stream."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling
        self._head = b"data: " + encode(identity(ruling, NAME))[:-1] + b","

    def opening(self) -> Iterable[Beat]:
        """See Stream."""
        return ()

    def tokens(self, told: Answer) -> Iterator[Beat]:
        """See Stream."""
        for _ in told.reasoning:
            yield self._text("")
        for text in told.content:
            yield self._text(text)
        if not (told.reasoning or told.content):
            yield self._text("")

    def closing(self, told: Answer) -> Iterable[Beat]:
        """See Stream."""
        choices = [_choice("", **reasons(told))]
        return (
            self._event(choices=choices),
            self._event(choices=choices, usage=usage(self._ruling)),
            (0, DONE),
        )

    def fail(self, kind: Kind) -> Iterable[Beat]:
        """See Stream."""
        choice = {"index": 0, "text": "", "finish_reason": "error"}
        if kind is Kind.BREAK:
            return (self._event(choices=[choice], error=disconnected()),)
        error = upstream_error(self._ruling)
        if kind is Kind.ERROR_FIRST:
            return self._event(error=error, choices=[choice]), (0, DONE)
        return (self._event(choices=[], error=error),)

    def _text(self, text: str) -> Beat:
        choice = _choice(text, finish_reason=None, native_finish_reason=None)
        return self._event(choices=[choice])

    def _event(self, **fields: Any) -> Beat:
        return 1, self._head + encode(fields)[1:] + b"\n\n"


COMPLETIONS = Dialect(
    path="/completions",
    read=reader("completions", _Body, _wish),
    whole=_whole,
    failed=failed,
    envelope=plain_envelope,
    stream=_Stream,
    texts={},
)
