"""How many tokens a text will be, before anybody counted them, and what answers teach about it (routing rule A.9).

The estimate weighs classes of UTF-8 bytes: "four characters are one token" is wrong by four times for Chinese
and by three for base64. Every pass runs at C speed (`translate`, `find`); nothing looks at single characters.
"""

import re
from dataclasses import dataclass
from math import exp, log

PER_MESSAGE = 4  # tokens around each message: role, separators
LIMIT = 1 << 14  # characters that are read; of a longer text evenly spaced slices stand for all
SLICES = 64

# Tokens per character by class, the priors of routing rule A.9.
LATIN, DIGIT, JSON, CJK, OTHER, EMOJI, DENSE = 0.24, 0.36, 0.55, 0.75, 0.6, 2.0, 0.68

_DIGITS = b"0123456789"
_JSON = b'{}[]":,\\'
_CONTINUATION = bytes(range(0x80, 0xC0))
_CJK_LEADS = bytes([*range(0xE3, 0xEE), 0xEF])  # U+3000-U+DFFF; EF also leads full-width forms
_EMOJI_LEADS = bytes(range(0xF0, 0xF5))
_LATIN = bytes(byte for byte in range(0x80) if byte not in _DIGITS + _JSON)
_BMP_EMOJI = re.compile(rb"\xe2[\x98-\x9e]")  # U+2600-U+27BF: ☀ … ➿

RUN = 40  # characters of base64 or hex from which a text is dense and not a long word
GLANCE = 256  # bytes of a run that tell what it is
_HEX = b"0123456789abcdefABCDEF"
_MARK = b"x"
_SHAPE = bytes(
    _MARK[0] if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"+/=") else 0x20
    for byte in range(0x100)
)
_RUNS = re.compile(_MARK * RUN + _MARK + b"*")  # a literal prefix, so that the search is linear

FULL_LOOK = (
    100.0  # estimated tokens from which a look counts fully: below, the chat template dominates
)
ABSURD = 8.0  # times what was expected: such a usage is not believed
HALF_LIFE = 20.0  # looks
LOWEST, HIGHEST = log(0.5), log(2.5)
PRIOR_LOOKS = 1.0  # weight of "the priors are right"


def estimate(text: str) -> float:
    """Expected tokens of a text, before any calibration."""
    if len(text) <= LIMIT:
        return _weigh(text.encode())
    size, step = LIMIT // SLICES, len(text) / SLICES
    sample = "".join([text[int(i * step) : int(i * step) + size] for i in range(SLICES)])
    return _weigh(sample.encode()) * len(text) / len(sample)


def _weigh(text: bytes) -> float:
    dense, text = _cut_dense(text)
    rest = text.translate(None, _LATIN + _CONTINUATION)
    followers = 0 if text.isascii() else len(text) - len(text.translate(None, _CONTINUATION))
    total = dense * DENSE + (len(text) - followers - len(rest)) * LATIN
    for members, weight in (
        (_DIGITS, DIGIT),
        (_JSON, JSON),
        (_CJK_LEADS, CJK),
        (_EMOJI_LEADS, EMOJI),
    ):
        left = rest.translate(None, members)
        total += (len(rest) - len(left)) * weight
        rest = left
    emoji = len(_BMP_EMOJI.findall(text)) if b"\xe2" in rest else 0
    return total + emoji * EMOJI + (len(rest) - emoji) * OTHER


def _cut_dense(text: bytes) -> tuple[int, bytes]:
    """The length of all dense runs, and the text without them."""
    shape = text.translate(_SHAPE)
    first = shape.find(_MARK * RUN)
    if first < 0:
        return 0, text
    kept: list[bytes] = []
    end = 0
    for run in _RUNS.finditer(shape, first):
        start, stop = run.span()
        if _is_dense(text[start:stop]):
            kept.append(text[end:start])
            end = stop
    kept.append(text[end:])
    plain = b"".join(kept)
    return len(text) - len(plain), plain


def _is_dense(run: bytes) -> bool:
    """Base64 has digits and capitals, hex only its own letters; paths, rulers and long numbers have neither."""
    head = run[:GLANCE]
    letters = len(head.translate(None, _DIGITS))
    if not len(head) / 6 < letters < len(head):  # hex is 6/16 letters, a number hardly any
        return False
    return head != head.lower() or not head.translate(None, _HEX)


@dataclass(slots=True)
class Ratio:
    """What one model's tokenizer makes of our estimates, learnt from reported usage with forgetting.

    Weighted sums of ρ = ln(reported / estimated) and of |residual|; they fade with a half-life of 20 looks.
    """

    weight: float = 0.0
    total: float = 0.0
    misses: float = 0.0

    @property
    def rho(self) -> float:
        """ln of reported over estimated, between ln 0.5 and ln 2.5."""
        return self.total / (self.weight + PRIOR_LOOKS)

    @property
    def miss(self) -> float:
        """The mean |residual| of ρ."""
        return self.misses / (self.weight + PRIOR_LOOKS)

    def learn(self, estimated: float, reported: int) -> None:
        """Take the usage of one answer. Not for prompts with images or audio: their tokens are no text."""
        if estimated <= 0 or not 0 < reported < ABSURD * (estimated + FULL_LOOK):
            return
        look = min(HIGHEST, max(LOWEST, log(reported / estimated)))
        share = min(1.0, estimated / FULL_LOOK)
        fade = 0.5 ** (share / HALF_LIFE)
        self.weight = self.weight * fade + share
        self.total = self.total * fade + share * look
        self.misses = self.misses * fade + share * abs(look - self.rho)

    def expected(self, estimated: float) -> float:
        """The tokens this model will count."""
        return estimated * exp(self.rho)

    @property
    def stretch(self) -> float:
        """What an estimate is multiplied by before it must fit: a margin of twice the mean residual."""
        return exp(self.rho + 2 * self.miss)
