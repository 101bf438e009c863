"""Text in an encoding that nobody wrote down: Unicode by its marks, else the older encodings that its bytes may be."""

import codecs
import re
from typing import Final

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS: Final = re.compile("[\\x00-\\x08\\x0e-\\x1f]")
_HIGH: Final = 0x80
_DOUBLE: Final = 0xA1  # both bytes of a letter in GB 2312 and KS X 1001 are from here on
_KANA: Final = range(
    0x81, 0xA0
)  # first bytes that Shift-JIS uses for most of Japanese, and the others for rare letters
_HANGUL: Final = range(0xAC00, 0xD7A4)
_LOOKED_AT: Final = 100  # bytes


class NotTextError(ValueError):
    """Bytes that are no text."""


def decode_text(data: bytes) -> tuple[str, str]:
    """A text, and in which encoding other than Unicode's it was read; empty for Unicode's.

    UTF-8, UTF-16 and UTF-32 are known for certain. Otherwise the bytes are Shift-JIS, cp949 (Korean), GB 18030 (Chinese) or
    cp1252 (western Europe), whichever is likeliest of those that can decode them: a guess, which the user is to be told.

    Raises:
        NotTextError: no encoding fits.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode(data, encoding), ""
    if encoding := _wide(data):
        return _decode(data, encoding), ""
    encoding = "" if _try(data, "utf-8") or not data else _older(data)
    return _decode(data, encoding or "utf-8"), encoding


def told_encoding(encoding: str) -> str:
    """That a text was read in another encoding than Unicode's, for a finding."""
    return f"it is not UTF-8; it was read as {encoding}, which is a guess. Look at its labels, or save it as UTF-8."


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


def _older(data: bytes) -> str:
    """Which of the older encodings bytes are likely in that are no UTF-8."""
    if _in_pairs(data):
        korean = _try(data, "cp949")
        if korean and all(ord(letter) in _HANGUL for letter in korean if ord(letter) >= _HIGH):
            return "cp949"
        if _try(data, "gb18030"):
            return "gb18030"
    if any(byte in _KANA for byte in data) and _try(data, "cp932"):
        return "cp932"
    return "gb18030" if _is_chinese(data) else "cp1252"


def _in_pairs(data: bytes) -> bool:
    """Whether bytes beyond ASCII come in twos, each from A1 on."""
    run = 0
    for byte in data:
        if byte >= _HIGH:
            if byte < _DOUBLE:
                return False
            run += 1
        elif run % 2:
            return False
        else:
            run = 0
    return run % 2 == 0


def _is_chinese(data: bytes) -> bool:
    """Whether all letters beyond ASCII are Chinese, and not single ones between western letters."""
    text = _try(data, "gb18030")
    beyond = [letter for letter in text or "" if ord(letter) >= _HIGH]
    ideographs = all("\u4e00" <= letter <= "\u9fff" or "\u3000" <= letter <= "\u303f" for letter in beyond)
    alone = sum(byte >= _HIGH for byte in data) <= len(beyond)  # each is one high byte and one ASCII letter
    return bool(beyond) and ideographs and not alone


def _try(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return ""
