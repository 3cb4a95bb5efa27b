"""Settings: which source wins, and what is said about a wrong one."""

from dataclasses import fields, is_dataclass
from math import inf
from typing import Any

import pytest

from keywheel.config import (
    Config,
    GatewaySettings,
    Loaded,
    Source,
    flatten,
    from_environment,
    from_flags,
    from_toml,
    load,
)
from keywheel.config.table import AT_MOST, RANGES, SETTINGS, dotted
from keywheel.errors import ConfigError
from keywheel.secret import Secret

TOKEN = "0123456789abcdefghijklmnopqrstuvwxyz"


def of_toml(text: str) -> Config:
    return load([from_toml(text, "keywheel.toml")]).config


def of_variables(**variables: str) -> Config:
    return load([from_environment(variables)]).config


def refusal(*sources: Any, **variables: str) -> str:
    """The sentence with which TOML texts or variables are refused."""
    with pytest.raises(ConfigError) as caught:
        load([*(from_toml(text, "keywheel.toml") for text in sources), from_environment(variables)])
    return str(caught.value)


# --- merging ---------------------------------------------------------------------------------------


def test_without_sources_everything_is_a_default() -> None:
    assert load([]) == Loaded(Config(), {})


def test_the_earlier_source_wins_value_by_value() -> None:
    loaded = load(
        [
            from_flags(gateway__port=1),
            from_environment({"KEYWHEEL_PORT": "2", "KEYWHEEL_HOST": "127.0.0.2"}),
            from_environment(
                {"KEYWHEEL_HOST": "127.0.0.3", "KEYWHEEL_LOG__LEVEL": "debug"}, ".env"
            ),
            from_toml('gateway.port = 4\nlog.level = "error"\nlimits.attempts = 5', "a.toml"),
            from_toml("limits.attempts = 6\nlimits.gap = 7", "b.toml"),
        ]
    )
    config = loaded.config
    assert (config.gateway.port, config.gateway.host) == (1, "127.0.0.2")
    assert (config.log.level, config.limits.attempts, config.limits.gap) == ("debug", 5, 7.0)
    assert loaded.origins == {
        "gateway.port": "flag",
        "gateway.host": "environment",
        "log.level": ".env",
        "limits.attempts": "a.toml",
        "limits.gap": "b.toml",
    }


def test_an_empty_table_takes_nothing_away() -> None:
    loaded = load([from_environment({"KEYWHEEL_PORT": "2"}), from_toml("[gateway]", "a.toml")])
    assert loaded.config.gateway.port == 2


def test_flags_that_are_not_given_say_nothing() -> None:
    assert from_flags(gateway__host=None, gateway__port=None).values == {}


def test_accounts_and_pools_come_from_toml() -> None:
    config = of_toml(
        """
        [accounts.team-a]
        keys = ["primary", "secondary"]
        per_day = 1000
        [accounts.b]
        keys = ["tertiary"]
        [pools]
        small = ["*8b*"]
        """
    )
    assert config.accounts["team-a"].keys == ("primary", "secondary")
    assert config.accounts["team-a"].per_day == 1000
    assert config.accounts["b"].per_minute == 20
    assert config.pools == {"small": ("*8b*",)}


def test_accounts_and_pools_come_from_variables_and_join_those_of_toml() -> None:
    loaded = load(
        [
            from_environment(
                {
                    "KEYWHEEL_ACCOUNTS__TEAM__KEYS": "primary, key5",
                    "KEYWHEEL_POOLS__SMALL": "*8b* *3b*",
                }
            ),
            from_toml("accounts.team.per_day = 9\naccounts.team.keys = []", "a.toml"),
        ]
    )
    assert loaded.config.accounts["team"].keys == ("primary", "key5")
    assert loaded.config.accounts["team"].per_day == 9
    assert loaded.config.pools == {"small": ("*8b*", "*3b*")}


# --- from the environment --------------------------------------------------------------------------


YES, NO = ("1", "TRUE", "yes", "On"), ("0", "false", "no", "off")


@pytest.mark.parametrize(
    ("text", "value"), [*((text, True) for text in YES), *((text, False) for text in NO)]
)
def test_booleans_have_many_spellings(text: str, value: bool) -> None:
    assert of_variables(KEYWHEEL_MODELS__ALLOW_PAID=text).models.allow_paid is value


@pytest.mark.parametrize("text", ["a,b", "a b", " a ,\n b,", "a\nb"])
def test_lists_are_separated_by_comma_or_space(text: str) -> None:
    assert of_variables(KEYWHEEL_MODELS__PREFERRED=text).models.preferred == ("a", "b")


def test_numbers_choices_and_optional_values_are_read() -> None:
    config = of_variables(
        KEYWHEEL_LIMITS__GAP="2.5",
        KEYWHEEL_LOG__LEVEL="WARNING",
        KEYWHEEL_ACCOUNTS__A__PER_DAY="7",
        KEYWHEEL_MODELS__PREFERENCE_STEP="inf",
        OPENROUTER_BASE_URL="http://localhost:1/api",
    )
    assert (config.limits.gap, config.log.level) == (2.5, "warning")
    assert (config.accounts["a"].per_day, config.models.preference_step) == (7, inf)
    assert config.upstream.base_url == "http://localhost:1/api"


def test_a_blank_variable_counts_as_not_set() -> None:
    assert of_variables(KEYWHEEL_PORT=" ", KEYWHEEL_LOG__LEVEL="") == Config()


def test_variables_of_others_are_left_alone() -> None:
    assert of_variables(OPENROUTER_API_KEY="x", PATH="/", KEYWHEEL="1", _KEYWHEEL_COMPLETE="1")


def test_tokens_are_sealed_at_once() -> None:
    source = from_environment({"KEYWHEEL_TOKENS": f"{TOKEN},{TOKEN}2"})
    assert source.values["gateway", "tokens"] == (Secret(TOKEN), Secret(TOKEN + "2"))
    assert TOKEN not in repr(source)
    assert TOKEN not in repr(from_toml(f'gateway.tokens = ["{TOKEN}"]', "a.toml"))


@pytest.mark.parametrize("setting", [s for s in SETTINGS.values() if "<name>" not in s.path])
def test_every_setting_has_one_variable(setting: Any) -> None:
    text = {bool: "true", int: "3", float: "3"}.get(setting.kind, "x")
    if setting.path[-1] in ("strategy", "fallback", "level", "format"):
        text = setting.default
    assert list(from_environment({setting.variable: text}).values) == [setting.path]


# --- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ("gateway.prot = 1", "gateway.prot", "did you mean gateway.port?"),
        ("gatway.port = 1", "gatway.port", "did you mean gateway?"),
        ("accounts.a.perday = 1", "accounts.a.perday", "did you mean accounts.a.per_day?"),
        ("log.zzz = 1", "log.zzz", "known: decisions, format, level"),
        ("[log.zzz]", "log.zzz", "known: decisions, format, level"),
        ("[gatewy]", "gatewy", "did you mean gateway?"),
    ],
)
def test_an_unknown_setting_is_named_with_the_nearest_one(text: str, path: str, hint: str) -> None:
    assert refusal(text) == f"unknown setting {path} in keywheel.toml; {hint}"


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("KEYWHEEL_PROT", "did you mean KEYWHEEL_PORT?"),
        ("KEYWHEEL_TOKEN", "did you mean KEYWHEEL_TOKENS?"),
        ("KEYWHEEL_GATEWAY_PORT", "did you mean KEYWHEEL_GATEWAY__PORT?"),
        ("KEYWHEEL_LIMITS__ATEMPTS", "did you mean KEYWHEEL_LIMITS__ATTEMPTS?"),
        ("KEYWHEEL_QQQ", "`keywheel config show` lists all there are"),
    ],
)
@pytest.mark.parametrize("text", ["1", ""])
def test_an_unknown_variable_is_named_with_the_nearest_one(
    variable: str, hint: str, text: str
) -> None:
    assert refusal(**{variable: text}) == f"unknown variable {variable} in environment; {hint}"


@pytest.mark.parametrize(
    ("text", "path", "wanted"),
    [
        ('gateway.port = "8787"', "gateway.port", "a whole number"),
        ("gateway.port = true", "gateway.port", "a whole number"),
        ("gateway.host = 1", "gateway.host", "a text"),
        ("upstream.ca_file = 1", "upstream.ca_file", "a text"),
        ("limits.gap = [1]", "limits.gap", "a number"),
        ("models.allow_paid = 1", "models.allow_paid", "true or false"),
        ('models.exclude = "x"', "models.exclude", "a list of texts"),
        ("gateway.tokens = [1]", "gateway.tokens", "a list of texts"),
        ('accounts.a.per_day = "x"', "accounts.a.per_day", "a whole number"),
        ('log.level = "loud"', "log.level", "one of debug, info, warning, error"),
    ],
)
def test_a_value_of_another_type_is_named(text: str, path: str, wanted: str) -> None:
    assert refusal(text) == f"{path}: {wanted} is expected (from keywheel.toml)"


@pytest.mark.parametrize(
    ("variable", "path", "wanted"),
    [
        ("KEYWHEEL_PORT", "gateway.port", "a whole number"),
        ("KEYWHEEL_LIMITS__GAP", "limits.gap", "a number"),
        ("KEYWHEEL_MODELS__ALLOW_PAID", "models.allow_paid", "true or false"),
        ("KEYWHEEL_LOG__FORMAT", "log.format", "one of auto, text, json"),
    ],
)
def test_a_variable_of_another_type_is_named(variable: str, path: str, wanted: str) -> None:
    said = refusal(**{variable: "hmm"})
    assert said == f"{path}: {wanted} is expected (from variable {variable} in environment)"


@pytest.mark.parametrize(
    ("text", "path", "fault"),
    [
        ("gateway = 3", "gateway", "a table of settings is expected"),
        ("accounts = 3", "accounts", "a table of settings is expected"),
        ("accounts.a = 3", "accounts.a", "a table of settings is expected"),
        ("[gateway.port]\nx = 1", "gateway.port", "a value is expected, not a table"),
        ('accounts."a b".per_day = 1', "accounts.a b.per_day", "a name has up to 64 letters"),
        ('pools."\\n" = []', "pools.\n", "a name has up to 64 letters"),
    ],
)
def test_a_table_in_place_of_a_value_and_the_other_way_round(
    text: str, path: str, fault: str
) -> None:
    assert refusal(text).startswith(f"{path} in keywheel.toml: {fault}")


@pytest.mark.parametrize(
    ("variable", "fault"),
    [
        ("KEYWHEEL_GATEWAY", "a table of settings is expected"),
        ("KEYWHEEL_POOLS", "a table of settings is expected"),
        ("KEYWHEEL_GATEWAY__PORT__X", "a value is expected, not a table"),
    ],
)
def test_a_variable_of_another_depth_is_named(variable: str, fault: str) -> None:
    assert refusal(**{variable: "1"}).endswith(f"in variable {variable} in environment: {fault}")


def test_what_is_not_toml_is_named_with_its_place() -> None:
    assert refusal("a = 1\nb =\nc") == (
        "keywheel.toml: not valid TOML: Invalid value (at line 2, column 4)"
    )


def test_a_setting_under_two_names_is_refused() -> None:
    said = refusal(KEYWHEEL_PORT="1", KEYWHEEL_GATEWAY__PORT="1")
    assert said == "gateway.port is set twice, by KEYWHEEL_PORT and KEYWHEEL_GATEWAY__PORT"


@pytest.mark.parametrize(
    ("path", "value", "range"),
    [
        ("gateway.port", "70000", "between 0 and 65535"),
        ("gateway.port", "-1", "between 0 and 65535"),
        ("limits.attempts", "0", "between 1 and 16"),
        ("limits.keepalive", "0", "above 0"),
        ("limits.max_queue", "-1", "0 or more"),
        ("gateway.drain", "inf", "0 or more"),
        ("limits.gap", "nan", "above 0"),
        ("models.preference_step", "0.5", "1 or more"),
        ("accounts.a.per_day", "0", "1 or more"),
    ],
)
def test_a_number_out_of_range_is_named(path: str, value: str, range: str) -> None:
    assert refusal(f"{path} = {value}") == (
        f"{path}: must be {range}, not {value} (from keywheel.toml)"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("limits.deadline = 301", "limits.deadline: 301 is more than health.window (300)"),
        ("limits.stream_deadline = 400", "limits.stream_deadline: 400 is more than health.window (300)"),
        ("health.window = 60", "limits.deadline: 120 is more than health.window (60)"),
        ("limits.first_content_min = 40", "limits.first_content_min: 40 is more than limits.first_content_max (30)"),
        ("gateway.tokens = []", "gateway.tokens: is set but holds no token; set one or remove it"),
        ('upstream.proxy = "http://u:p@h:1"', "upstream.proxy: must not hold a user or a password"),
    ],
)  # fmt: skip
def test_values_that_do_not_go_together_are_named(text: str, sentence: str) -> None:
    assert refusal(text).removesuffix(" (from keywheel.toml)") == sentence


@pytest.mark.parametrize("blank", ["", " ", ",", " , "])
def test_tokens_that_are_set_to_nothing_never_mean_an_open_gateway(blank: str) -> None:
    assert "holds no token" in refusal(KEYWHEEL_TOKENS=blank)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://openrouter.ai/api/v1", "must begin with https://"),
        ("http://127.0.0.1.evil.example/", "must begin with https://"),
        ("http://[::2]/", "must begin with https://"),
        ("https://user:hunter2@openrouter.ai/", "must not hold a user or a password"),
        ("ftp://openrouter.ai", "must look like"),
        ("openrouter.ai/api/v1", "must look like"),
        ("https://", "must look like"),
        ("http://[::1", "must look like"),
    ],
)
def test_an_address_that_keys_must_not_go_to_is_refused(url: str, fault: str) -> None:
    said = refusal(OPENROUTER_BASE_URL=url)
    assert said.startswith(f"upstream.base_url: {fault}")
    assert "hunter2" not in said


@pytest.mark.parametrize("url", ["http://localhost:1/x", "http://127.9.9.9", "http://[::1]:8/api"])
def test_plain_http_is_for_loopback(url: str) -> None:
    assert of_variables(OPENROUTER_BASE_URL=url).upstream.base_url == url


# --- the tables ------------------------------------------------------------------------------------


def test_defaults_lie_in_their_ranges() -> None:
    values = flatten(Config())
    del values["gateway", "tokens"]  # the one list that may be absent and not empty
    assert load([Source("defaults", values)]).config == Config()


def test_ranges_are_about_settings_that_exist() -> None:
    known = {dotted(path) for path in SETTINGS}
    assert set(RANGES) | {path for pair in AT_MOST for path in pair} <= known


def test_no_section_holds_a_plain_secret() -> None:
    """What may be printed must not print a secret (requirement C6)."""
    config = load([from_environment({"KEYWHEEL_TOKENS": TOKEN})]).config
    assert config.gateway == GatewaySettings(tokens=(Secret(TOKEN),))
    assert TOKEN not in repr(config)


def test_sections_are_frozen_dataclasses() -> None:
    sections = [getattr(Config(), each.name) for each in fields(Config)]
    for section in sections:
        if is_dataclass(section):
            with pytest.raises(AttributeError):
                setattr(section, fields(section)[0].name, None)
