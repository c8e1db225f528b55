"""Tokens to text as they come: whole characters only, and cut at a stop string.

Knows a `decode` of token ids and the caller's stop strings. Does not know engines, requests or who reads
the text. Whatever `push` returned stays true: no later token changes or takes back a character of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"  # what decoding gives for bytes that are no character (yet)
# How many of them at the end of a text can still become characters. Where a tokenizer spells a character in tokens of
# one byte, it decodes a run of them as one U+FFFD a byte until every character in the run is finished: the character
# before, of up to 4 bytes and already given out as 1, and up to 3 bytes of the one that is coming.
MOST_OPEN = 4 + 3 - 1


class Detokeniser:
    """Decodes a growing list of ids without ever splitting a UTF-8 character.

    Some tokenizers write a token differently at the start of a text than inside it, so each piece is decoded behind
    the piece before it and the common front is cut off.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._front: list[int] = []  # the ids of the last whole piece
        self._ids: list[int] = []  # those after it
        self._given = 0  # characters of the text after the front that have been given out

    def push(self, token: int) -> str:
        """The characters that this token makes certain; often one piece, sometimes none."""
        self._ids.append(token)
        text = self._tail()
        undecided = min(len(text) - len(text.rstrip(REPLACEMENT)), MOST_OPEN)
        certain = text[: len(text) - undecided]
        piece, self._given = certain[self._given :], max(self._given, len(certain))
        if certain and not undecided:
            self._front, self._ids, self._given = self._ids, [], 0
        return piece

    def flush(self) -> str:
        """What was undecided, now that the text has ended, without the bytes of an unfinished character."""
        # Three of its four bytes may have come, each as a token.
        for late in range(min(4, len(self._ids) + 1)):
            text = self._tail(without=late)
            if (text or self._front) and not text.endswith(REPLACEMENT):
                return text[self._given :]
        return self._tail()[self._given : -1]  # it was no beginning of a character

    def _tail(self, without: int = 0) -> str:
        """The text of the ids after the front, but for so many of the last."""
        ids = self._ids[: len(self._ids) - without]
        return self._decode(self._front + ids)[len(self._decode(self._front)) :]


class StopStrings:
    """Cuts a text at the first of some strings, and holds back what might be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """What can be given out for certain. Once `found`, nothing comes any more."""
        if self.found:
            return ""
        text = self._held + piece
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        hold = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def flush(self) -> str:
        """The text has ended: what was held back began no stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning, not the whole, of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class AnswerText:
    """Both in one: token ids in, text out that is safe to send."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self._detokeniser = Detokeniser(decode)
        self._stops = StopStrings(stops)

    def push(self, token: int) -> str:
        """What this token lets be sent."""
        return self._stops.push(self._detokeniser.push(token))

    @property
    def stopped(self) -> bool:
        """A stop string was met: the answer has ended."""
        return self._stops.found

    def flush(self) -> str:
        """What was held back, now that the answer has ended. Bytes of an unfinished character are dropped."""
        return self._stops.push(self._detokeniser.flush()) + self._stops.flush()
