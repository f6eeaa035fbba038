"""Masking: nothing of a secret is left, nothing else is touched, however the stream is cut."""

from __future__ import annotations

import base64
import json
import shlex
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from commands.rules import limits, redaction
from commands.rules.redaction import HIDDEN, Masker, Secrets

# Few letters, so that secrets overlap, nest and repeat; and bytes of all kinds.
SECRETS = st.lists(
    st.lists(st.sampled_from([b"a", b"b"]), max_size=7).map(b"".join) | st.binary(max_size=6),
    max_size=4,
)


@st.composite
def streams(draw):
    secrets = draw(SECRETS)
    parts = st.sampled_from([b"a", b"b", b"*", *secrets, *(secret[:-1] for secret in secrets)])
    data = b"".join(draw(st.lists(parts | st.binary(max_size=3), max_size=25)))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    chunks = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return secrets, data, chunks


def expected(secrets, data):
    """The definition itself, slow and plain."""
    masked = bytearray(data)
    for secret in secrets:
        if len(secret) >= limits.SECRET_BYTES_MIN:
            for start in range(len(data) - len(secret) + 1):
                if data.startswith(secret, start):
                    masked[start : start + len(secret)] = b"*" * len(secret)
    return bytes(masked)


@given(streams())
@example(([b"ababa"], b"abababa", [b"abab", b"aba"]))
@example(([b"aba", b"xabay"], b"xabaxabay", [b"xaba", b"xab", b"ay"]))
def test_masking_is_what_it_says_for_every_chunking(stream):
    secrets, data, chunks = stream
    masker, out = Masker(Secrets(secrets)), b""
    longest = max([len(s) for s in secrets if len(s) >= limits.SECRET_BYTES_MIN], default=1)
    fed = 0
    for chunk in chunks:
        out += masker.feed(chunk)
        fed += len(chunk)
        assert len(out) + masker.held == fed
        assert masker.held < longest
    out += masker.finish()
    assert out == expected(secrets, data)
    assert masker.held == 0
    for secret in secrets:
        # Asterisks put in place of a secret can complete another text that holds some itself.
        if len(secret) >= limits.SECRET_BYTES_MIN and b"*" not in secret:
            assert secret not in out


@given(streams())
def test_only_a_tail_that_could_begin_a_secret_is_held(stream):
    secrets, data, _ = stream
    masker = Masker(Secrets(secrets))
    released = len(masker.feed(data))
    held = data[released:]
    usable = [s for s in secrets if len(s) >= limits.SECRET_BYTES_MIN]
    assert not held or any(s.startswith(held) and s != held for s in usable)
    for longer in range(released):
        assert not any(len(s) > len(data) - longer and s.startswith(data[longer:]) for s in usable)


@st.composite
def restarts(draw):
    """Secrets, a stream, its cuts, and after which of them another masker takes over."""
    secrets, data, chunks = draw(streams())
    return secrets, data, chunks, draw(st.sets(st.integers(0, len(chunks) - 1)))


@given(restarts(), st.data())
@example(([b"abab"], b"xababab", [b"xababa", b"b"], {0}), None)
def test_another_masker_goes_on_where_one_was_lost(restart, draw):
    secrets, data, chunks, lost_after = restart
    prepared = Secrets(secrets)
    masker, out, fed = Masker(prepared), b"", 0
    for number, chunk in enumerate(chunks):
        # What was fed and not released is fed again, in one piece or two.
        again = data[len(out) + masker.held : fed]
        cut = draw.draw(st.integers(0, len(again))) if draw else 0
        fed += len(chunk)
        for piece in (again[:cut], again[cut:] + chunk):
            out += masker.feed(piece)
        if number in lost_after:
            before, masker = masker, Masker(prepared)
            masker.skip(len(out), before.masked)
    out += masker.feed(data[len(out) + masker.held :]) + masker.finish()
    assert out == expected(secrets, data)


def test_a_secret_is_masked_though_the_masker_is_lost_inside_it():
    prepared = Secrets([b"abab"])
    first = Masker(prepared)
    assert first.feed(b"xabab") == b"x**"
    assert (first.held, first.masked) == (2, 2)
    second = Masker(prepared)
    second.skip(3, first.masked)
    assert second.feed(b"a") + second.feed(b"b") == b""
    assert second.feed(b"!") + second.finish() == b"**!"


@given(st.integers(0, 30), st.integers(0, 8), st.integers(1, 5))
def test_of_a_secret_with_a_part_missing_nothing_is_left(at, missing, size):
    data = b"so hunter2 and hunter2hunter2\n" + b"." * 20
    masker = Masker(Secrets([b"hunter2", b"abc"]))
    before = masker.feed(data[:at]) + masker.cut()
    assert masker.held == 0
    after = data[at + missing :]
    behind = b"".join(masker.feed(after[n : n + size]) for n in range(0, len(after), size))
    behind += masker.finish()
    assert (len(before), len(behind)) == (at, len(after))
    whole = Masker(Secrets([b"hunter2"])).feed(data)
    parts = (before, data[:at], whole[:at]), (behind, after, whole[at + missing :])
    for shown, there, masked in parts:
        for byte, original, expected in zip(shown, there, masked, strict=True):
            assert byte == ord("*") or byte == original == expected


def test_without_secrets_nothing_is_masked_behind_missing_bytes():
    masker = Masker(Secrets([]))
    assert masker.feed(b"abc") + masker.cut() + masker.feed(b"def") == b"abcdef"


@pytest.mark.parametrize("secret", [b"", b"a", b"ab"])
def test_short_secrets_are_ignored(secret):
    masker = Masker(Secrets([secret]))
    assert masker.feed(b"abab") == b"abab"
    assert masker.finish() == b""


def test_a_secret_over_many_chunks():
    masker = Masker(Secrets([b"hunter2"]))
    assert [masker.feed(bytes([b])) for b in b"x hunter2!"] == [
        b"x", b" ", b"", b"", b"", b"", b"", b"", b"*******", b"!",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("secrets", "unit"),
    [
        ([b"hunter2", b"correct horse battery"], b"some ordinary line of output\n"),
        ([b"a" * 64], b"a"),
        ([b"a" * 8 + b"b"], b"a"),
        ([b"ab" * 20, b"aba"], b"ab"),
        ([b"hunter2"], b"hunter2 "),
        ([b"\n" * 3 + b"k" * 10_000], b"\n\nk"),
    ],
)
def test_output_is_masked_quickly(secrets, unit):
    size = 1024 * 1024  # time grows with size only
    chunk = (unit * (65_536 // len(unit) + 1))[:65_536]
    masker, released = Masker(Secrets(secrets)), 0
    started = time.process_time()
    for _ in range(size // len(chunk)):
        released += len(masker.feed(chunk))
    released += len(masker.finish())
    assert released == size
    assert time.process_time() - started < 2


def test_the_usual_spellings_of_a_secret_are_masked():
    secret = " pä$$'w\"o/r d\\\n"
    shown = [
        secret,
        secret.strip(),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        quote(secret, safe=""),
        shlex.quote(secret).replace("'\"'\"'", "'\\''"),
    ]
    for text in shown:
        masker = Masker(Secrets(redaction.forms(secret)))
        out = masker.feed(text.encode()) + masker.finish()
        assert len(out) == len(text.encode())
        assert b"r d" not in out
        assert b"r%20d" not in out
    # Said in the module: Base64 is not recognised.
    encoded = base64.b64encode(secret.encode())
    assert Masker(Secrets(redaction.forms(secret))).feed(encoded + b"\n") == encoded + b"\n"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_that_were_typed_around_a_value_are_no_part_of_what_a_script_prints(quote):
    prepared = Secrets(redaction.forms(f" {quote}s3cret{quote}\n"))
    assert Masker(prepared).feed(b"it is s3cret.") == b"it is ******."


def mask_text(text, secrets):
    return Secrets(frozenset().union(*map(redaction.forms, secrets))).hide_in(text)


def test_text_gets_marks_that_tell_no_length():
    assert mask_text("a hunter2 b abc", ["hunter2", "abc", "", "b"]) == (f"a {HIDDEN} b {HIDDEN}")
    assert mask_text("xababax", ["aba"]) == f"x{HIDDEN}x"
    assert mask_text("nothing é \ud800", []) == "nothing é \ud800"


@given(st.text(), st.lists(st.text(max_size=4), max_size=3))
def test_text_keeps_no_secret(text, secrets):
    masked = mask_text(text, secrets)
    for secret in secrets:
        usable = len(secret.encode(errors="surrogatepass")) >= limits.SECRET_BYTES_MIN
        if usable and "•" not in secret:
            assert secret not in masked
