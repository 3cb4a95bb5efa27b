"""A secret is seen by nobody who does not ask for it."""

import copy
import json
import logging
import pickle
import traceback

import msgspec
import pytest

from keywheel.secret import Secret, Veiled

VALUE = "sk-or-v1-" + "5ec2e7" * 10


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        "{}".format,
        "{!r}".format,
        "%s".__mod__,
        "%r".__mod__,
        lambda secret: f"{secret:>40}",
        lambda secret: repr([secret, {"key": secret}]),
        lambda secret: json.dumps(secret, default=str),
        lambda secret: msgspec.json.encode(secret, enc_hook=str).decode(),
        lambda secret: str(vars(type(secret))),
        dir,
    ],
)
def test_no_way_of_printing_shows_it(show) -> None:
    assert VALUE not in str(show(Secret(VALUE)))


@pytest.mark.parametrize("pack", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode])  # fmt: skip
def test_it_is_not_packed_or_copied(pack) -> None:
    with pytest.raises(TypeError) as caught:
        pack(Secret(VALUE))
    assert VALUE not in str(caught.value)


def test_it_has_no_attributes_to_list() -> None:
    with pytest.raises(TypeError):
        vars(Secret(VALUE))


def test_a_traceback_with_local_variables_hides_it(caplog: pytest.LogCaptureFixture) -> None:
    def fail(key: Secret) -> None:
        raise RuntimeError(f"with {key}")

    try:
        fail(Secret(VALUE))
    except RuntimeError as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        logging.getLogger("x").exception("it failed: %r", Secret(VALUE))
    assert VALUE not in "".join(told.format()) + caplog.text


def test_reveal_gives_it_out() -> None:
    assert Secret(VALUE).reveal() == VALUE


def test_equal_secrets_are_equal_and_nothing_else_is() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret(VALUE + "1")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1


# --- bytes on their way to a header ----------------------------------------------------------------


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r}".format,
        "%s".__mod__,
        lambda it: f"{it:>40}",
        lambda it: repr([it, (b"authorization", it)]),
    ],
)
def test_veiled_bytes_are_not_shown(show) -> None:
    assert VALUE not in show(Veiled(VALUE.encode()))


@pytest.mark.parametrize("pack", [pickle.dumps, copy.copy, copy.deepcopy])
def test_veiled_bytes_are_not_packed_or_copied(pack) -> None:
    with pytest.raises(TypeError):
        pack(Veiled(VALUE.encode()))


def test_veiled_bytes_are_bytes_for_everything_else() -> None:
    veiled = Veiled(VALUE.encode())
    assert b"x: %b\r\n" % veiled == b"x: " + VALUE.encode() + b"\r\n"
    assert b"".join([b"a", veiled]) == b"a" + VALUE.encode()
    assert veiled == VALUE.encode()
