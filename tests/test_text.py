"""Tokens to text: whole characters, stop strings across token borders, nothing taken back."""

import itertools
import re

import pytest
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel

from service.text import AnswerText, Detokeniser, StopStrings
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()  # one token a byte
MIXED = "a – é 漢字 👩‍🚀 ﷽ \ufffd end"


def decode(ids):
    return TOKENIZER.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def tokens(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def test_a_character_comes_whole_or_not_at_all():
    detokeniser = Detokeniser(decode)
    pieces = [detokeniser.push(token) for token in tokens("aé漢👩")]
    assert pieces == ["a", "", "é", "", "", "漢", "", "", "", "👩"]


def test_pieces_add_up_to_the_whole_text():
    detokeniser = Detokeniser(decode)
    assert "".join(detokeniser.push(token) for token in tokens(MIXED)) == MIXED


def test_bytes_that_are_no_character_do_not_hold_up_what_follows():
    alphabet = {byte: i for i, byte in enumerate(sorted(range(256), key=lambda b: decode_order()[b]))}
    detokeniser = Detokeniser(decode)
    pieces = [detokeniser.push(alphabet[byte]) for byte in b"\x80" * 7 + b"\xe6A"]
    assert pieces == [""] * 6 + ["\ufffd", "\ufffd", "\ufffd" * 6 + "A"]


def decode_order():
    """byte → its letter in the byte-level alphabet, whose sorted order numbers the tiny tokenizer's ids."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return bytes_to_unicode()


def byte_fallback():
    """A decode as Mistral's and Llama 2's: what is not among its words is spelt in tokens of one byte, as is "\\n"."""
    words = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁end"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="▁"))
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(chain)
    return tokenizer


def spelt(text):
    """The ids of `text`, for that tokenizer."""
    for word in re.split("( end| )", text):
        known = {" end": [257], " ": [256]}
        yield from known.get(word, word.encode())


def test_characters_spelt_in_tokens_of_one_byte_come_whole():
    text = "é👩👩‍🚀漢👩\n\n👩é end 漢字 – é"
    decode, ids = byte_fallback().decode, list(spelt(text))
    detokeniser = Detokeniser(decode)
    pieces = [detokeniser.push(token) for token in ids]
    assert "".join(pieces) == decode(ids) == text


def test_tokens_of_one_byte_that_are_no_character_do_not_change_what_was_given_out():
    detokeniser = Detokeniser(byte_fallback().decode)
    pieces = [detokeniser.push(token) for token in [*"👩".encode(), *"漢".encode()[:2], 257, *"é".encode()]]
    assert pieces == ["", "", "", "👩", "", "", "\ufffd" * 5 + " end", "", "é"]


def test_a_tokenizer_that_drops_a_leading_space_keeps_the_spaces_within():
    words = {1: "▁Hello", 2: "▁wor", 3: "ld", 4: "▁again"}

    def sentencepiece(ids):
        return "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")

    detokeniser = Detokeniser(sentencepiece)
    assert [detokeniser.push(token) for token in (1, 2, 3, 4)] == ["Hello", " wor", "ld", " again"]


@pytest.mark.parametrize("cuts", list(itertools.combinations(range(1, 7), 2)))
def test_a_stop_string_is_found_across_pieces_and_is_not_given_out(cuts):
    text = "ab<END>c"
    bounds = [0, *(cut + 1 for cut in cuts), len(text)]
    stops = StopStrings(["<END>"])
    out = "".join(stops.push(text[a:b]) for a, b in itertools.pairwise(bounds))
    assert (out, stops.found, stops.flush()) == ("ab", True, "")


def test_what_might_begin_a_stop_string_is_held_until_it_is_sure():
    stops = StopStrings(["\n\n", "Human:"])
    assert [stops.push(piece) for piece in ("one\n", "two Hum", "ble")] == ["one", "\ntwo ", "Humble"]
    assert stops.push("x\n") == "x" and stops.flush() == "\n"


def test_the_earliest_of_several_stop_strings_cuts():
    stops = StopStrings(["world", "lo"])
    assert stops.push("hello world") == "hel" and stops.found


def test_a_stop_string_of_two_characters_that_repeat():
    stops = StopStrings(["aab"])
    assert "".join(stops.push(letter) for letter in "aaab") == "a" and stops.found


def test_the_last_unfinished_character_of_an_answer_is_dropped():
    text = AnswerText(decode, ["zz"])
    assert "".join(text.push(token) for token in tokens("oké z")[:3]) == "ok"
    assert text.flush() == ""


@pytest.mark.parametrize("late", [1, 2, 3])
@pytest.mark.parametrize("before", ["", "a", "é end", "👩", "漢字"])
def test_so_is_one_that_was_spelt_in_tokens_of_one_byte_and_nothing_else(before, late):
    text = AnswerText(byte_fallback().decode, [])
    ids = [*spelt(before), *"👩".encode()[:late]]
    given = "".join(text.push(token) for token in ids) + text.flush()
    assert given == (before or "\ufffd" * (late - 1))


def test_an_answer_of_bytes_that_are_no_character_is_not_empty():
    text = AnswerText(byte_fallback().decode, [])
    assert "".join(text.push(0x80) for _ in range(4)) + text.flush() == "\ufffd" * 3


def test_held_back_text_comes_at_the_end():
    text = AnswerText(decode, ["zz"])
    assert "".join(text.push(token) for token in tokens("jaz")) == "ja"
    assert not text.stopped and text.flush() == "z"
