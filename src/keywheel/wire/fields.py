"""The fields that the upstream documents, per dialect: what passes when unknown ones may not (requirement C21).

Source: OpenRouter's OpenAPI of 2026-08-22 and its guides; for completions, OpenAI's reference of the legacy API.
"""

from collections.abc import Mapping


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMON = _names("""
    model models provider plugins route user session_id trace metadata stream temperature top_p top_k
    service_tier stop_server_tools_when cache_control
""")
_OPENAI = _COMMON | _names("""
    frequency_penalty presence_penalty repetition_penalty min_p top_a seed stop logit_bias logprobs max_tokens n
    stream_options response_format reasoning reasoning_effort include_reasoning transforms usage debug verbosity
    prompt_cache_key prompt_cache_options prediction structured_outputs
""")
_TOOLS = _names("tools tool_choice parallel_tool_calls")

DOCUMENTED: Mapping[str, frozenset[str]] = {
    "chat": _OPENAI
    | _TOOLS
    | _names("""
        messages max_completion_tokens top_logprobs modalities image_config functions function_call
    """),
    "completions": _OPENAI | _names("prompt suffix echo best_of"),
    "responses": _COMMON
    | _TOOLS
    | _names("""
        input instructions max_output_tokens max_tool_calls background include previous_response_id prompt
        prompt_cache_key prompt_cache_options reasoning safety_identifier store text top_logprobs truncation
        debug modalities image_config frequency_penalty presence_penalty
    """),
    "messages": _COMMON
    | _TOOLS
    | _names("""
        messages system max_tokens stop_sequences thinking context_management output_config speed fallbacks
    """),
    "embeddings": _names("model input dimensions encoding_format input_type provider user"),
}
