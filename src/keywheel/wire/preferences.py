"""Which free models are preferred: the one curated list, as data.

Read by `keywheel.wire.models.order`. The catalogue decides what is alive; an id that is not listed there costs
nothing here, so entries may stay when a model leaves and work again when it returns.

To refresh: take the free chat models of today's `GET /models` (`keywheel models`), put newcomers at their place,
move models that answer badly or seldom down, change DATE. Quality is an editor's judgement from size,
generation and reports, 0 to 100; it is not measured. Models behind a gate (inkling) are left out.
"""

DATE = "2026-10-05"

# The founding document's order. None was free on the date above; ids of open models do come back.
FOUNDING = (
    "meta-llama/llama-3.2-3b-instruct:free",
    "microsoft/phi-3-mini-128k-instruct:free",
    "meta-llama/llama-3.1-8b-instruct:free",
    "openchat/openchat-7b:free",
    "google/gemma-2-9b-it:free",
)

# Order: what to try first, weighing quality with how dependable the free endpoint was. Column: quality alone.
CURATED = (
    ("nvidia/nemotron-3-super-120b-a12b:free", 76),
    ("google/gemma-4-31b-it:free", 72),
    ("qwen/qwen3.8-27b:free", 78),
    ("nvidia/nemotron-3-ultra-550b-a55b:free", 88),
    ("z-ai/glm-5.2:free", 90),
    ("minimax/minimax-m3:free", 86),
    ("google/gemma-4-26b-a4b-it:free", 66),
    ("nvidia/nemotron-3.5-lightning:free", 70),
    ("dots-studio/dots-3-note-preview:free", 68),
    ("nex-agi/nex-n2.5-pro:free", 74),
    ("inclusionai/ling-3.0-flash:free", 69),
    ("inclusionai/ling-3.0-flash-vl:free", 67),
    ("openai/gpt-oss-20b:free", 60),
    ("poolside/laguna-s-2.1:free", 64),
    ("cohere/north-mini-code:free", 58),
    ("nvidia/nemotron-3-nano-omni-30b-a3b-reasoning:free", 57),
    ("nvidia/nemotron-3-nano-30b-a3b:free", 56),
    ("poolside/laguna-xs-2.1:free", 52),
    ("nex-agi/nex-n2.5-mini:free", 54),
    ("inclusionai/ling-3.0-flash-sante:free", 53),
    ("inclusionai/ling-3.0-flash-fin:free", 53),
    ("nvidia/nemotron-nano-12b-v2-vl:free", 44),
    ("nvidia/nemotron-nano-9b-v2:free", 42),
    ("liquid/lfm-2.5-2.6b:free", 25),
)
