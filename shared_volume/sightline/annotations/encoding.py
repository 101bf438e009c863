"""Text in an encoding that nobody wrote down: Unicode by its marks, else the older encodings that its bytes may be."""

import codecs
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS: Final = re.compile("[\\x00-\\x08\\x0e-\\x1f]")
# From a byte beyond ASCII on; the older encodings' second bytes are letters too.
_WORDS: Final = re.compile(rb"[\x80-\xff][@-~\x80-\xff]*")
_LOOKED_AT: Final = 100  # bytes
_SHOWN: Final = 3  # texts in a finding
_MOST_FILES: Final = 2000  # of a folder, whose text tells in which encoding its tool writes
_LARGEST: Final = 64_000_000  # bytes of such a file
_SURE: Final = 0.6  # of the letters are usual in the language
_TWO_BYTES: Final = "\u0800"  # letters before it have two bytes in UTF-8, as some Chinese ones have in GB 18030
# Syllables that make up most of Korean text. All of its letters have the bytes of Chinese ones too, of which a sixth fall on these.
_KOREAN: Final = frozenset(
    "가각간갈감강개거건걸검것게격견결경계고곡공과관광교구국군권귀규균그근금급기긴길김까끝나난날남내너년노높누는능니다단"
    "달담당대더던데도독동되된두드득든들등디따때라락란람래량러력련령로록론료루류르른를리린림마막만말망매머메면명모목몸무문물"
    "미민밀바박반발방배백버번범법변별병보복본부북분불비빈사산살삼상새색생서석선설성세소속손송수순술스습승시식신실심아악안알"
    "압앞애야약양어억언얼업없에여역연열염영예오온와완외요용우운울원월위유육윤율으은을음의이익인일임입자작장재저적전절점접정"
    "제조족종좌주죽준중증지직진질집차착찬찰참창채책처천철청체초촌총최추출충취측층치카커코크키타탁탈태터테토통투트특티파판패"
    "페편평폐포폭표품프플피필하학한할함합항해행향험현협형호혼화확환활황회획효후훈휴흐흑희히힘번판균깨끗긁찌꼬꽃손흠홈캔컵병"
)


class NotTextError(ValueError):
    """Bytes that are no text."""


def decode_text(data: bytes, near: Path | None = None) -> tuple[str, str]:
    """A text, and in which encoding other than Unicode's it was read; empty for Unicode's.

    UTF-8, UTF-16 and UTF-32 are known for certain. Otherwise the bytes are Shift-JIS, cp949 (Korean), GB 18030 (Chinese) or
    cp1252 (western Europe), whichever makes the most usual letters of them: a guess, which the user is to be told. A few
    letters say little, so with `near`, the file that the text is of, all files of its kind beside it are looked at.

    Raises:
        NotTextError: no encoding fits.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode(data, encoding), ""
    if encoding := _wide(data):
        return _decode(data, encoding), ""
    encoding = older_encoding(data, near)
    return _decode(data, encoding or "utf-8"), encoding


def older_encoding(data: bytes, near: Path | None = None) -> str:
    """The encoding that `decode_text` takes for a text without a mark; empty where that is UTF-8."""
    words = _WORDS.findall(data)
    if not words:
        return ""
    is_unicode = _is_valid(data, "utf-8")
    if is_unicode and (near is None or not _may_be_older(words)):
        return ""
    guess = ""
    if near:
        with suppress(OSError):
            guess = _guess_of_folder(near.parent, near.suffix, near.parent.stat().st_mtime_ns)
    if is_unicode:
        return guess if guess and _likeness(words, guess) >= _SURE else ""
    return guess if guess and _is_valid(data, guess) else _guess(words)


def told_encoding(encoding: str, texts: Iterable[str]) -> str:
    """That texts were read in another encoding than Unicode's, for a finding; with some of them, for the reader to judge."""
    read = list(dict.fromkeys(text for text in texts if not text.isascii()))[:_SHOWN]
    shown = f" ({', '.join(map(repr, read))})" if read else ""
    return (
        f"it is not UTF-8; it was read as {encoding}, which is a guess{shown}. Look at its labels, or save it as UTF-8."
    )


def as_utf8(data: bytes) -> bytes:
    """A text's bytes in UTF-8 without mark where it is in UTF-16 or UTF-32; all else as it is."""
    head = data[:_LOOKED_AT]
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) or _wide(head):
        try:
            return decode_text(data)[0].encode()
        except (NotTextError, UnicodeEncodeError):
            return data
    return data


def _decode(data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise NotTextError(f"it is not in {encoding}") from None
    if _CONTROLS.search(text):
        raise NotTextError("it has control characters")
    return text


def _wide(data: bytes) -> str:
    """UTF-16 without a mark: of what is mostly ASCII every other byte is zero."""
    head = data[:_LOOKED_AT]
    if len(head) < 2 or b"\0" not in head:
        return ""
    first, second = head[::2], head[1::2]
    if not any(second) and all(first):
        return "utf-16-le"
    return "utf-16-be" if not any(first) and all(second) else ""


@lru_cache(maxsize=64)
def _guess_of_folder(folder: Path, suffix: str, changed: int) -> str:
    """The older encoding of a folder's files of one kind, unless more of them are in UTF-8; `changed` is when it was."""
    words: list[bytes] = []
    older = 0
    for number, path in enumerate(sorted(folder.glob(f"*{suffix}"))):
        if number == _MOST_FILES:
            break
        with suppress(OSError):
            data = path.read_bytes() if path.is_file() and path.stat().st_size <= _LARGEST else b""
            found = _WORDS.findall(data)
            if not found or data.startswith(tuple(mark for mark, _ in _MARKS)):
                continue
            if not _is_valid(data, "utf-8"):
                older += 1
                words += found
            elif _may_be_older(found):
                older -= 1
    return _guess(words) if older > 0 else ""


def _may_be_older(words: Sequence[bytes]) -> bool:
    """Whether words in UTF-8 have letters of two bytes alone, which letters of an older encoding may look like."""
    return max(b" ".join(words).decode(errors="ignore")) < _TWO_BYTES


def _guess(words: Sequence[bytes]) -> str:
    """The older encoding in which words are most likely written."""
    if _likeness(words, "cp949") >= _SURE:
        return "cp949"
    return max(("gb18030", "cp932", "cp1252"), key=lambda encoding: _likeness(words, encoding))


def _likeness(words: Sequence[bytes], encoding: str) -> float:
    """The share of the letters beyond ASCII that are usual where an encoding is; -1 where it cannot decode the words."""
    try:
        letters = [letter for word in words for letter in word.decode(encoding) if not letter.isascii()]
    except UnicodeDecodeError:
        return -1.0
    return sum(map(_USUAL[encoding], letters)) / max(1, len(letters))


def _first_byte(letter: str, encoding: str) -> int:
    found = letter.encode(encoding, errors="ignore")
    return found[0] if len(found) == 2 else 0


def _usual_in_chinese(letter: str) -> float:
    return 0xB0 <= _first_byte(letter, "gb2312") <= 0xD7 or "\u3000" <= letter <= "\u303f"


def _usual_in_japanese(letter: str) -> float:
    if "\uff61" <= letter <= "\uff9f":  # narrow kana, which bytes of other encodings give too
        return 0.4
    return "\u3000" <= letter <= "\u30ff" or 0x88 <= _first_byte(letter, "cp932") <= 0x97


def _usual_in_western(letter: str) -> float:
    return (1.0 if letter.islower() else 0.5) if letter.isalpha() else 0.0


_USUAL: Final[dict[str, Callable[[str], float]]] = {
    "cp949": _KOREAN.__contains__,
    "gb18030": _usual_in_chinese,
    "cp932": _usual_in_japanese,
    "cp1252": _usual_in_western,
}


def _is_valid(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
