"""Text in whatever encoding an annotation tool's machine wrote it."""

import pytest

from sightline.annotations.encoding import NotTextError, as_utf8, decode_text


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("cup\nmug\n", "ascii", ""),
        ("Straße\n杯子\n", "utf-8", ""),
        ("Straße\n", "utf-8-sig", ""),
        ('{"label": "杯子"}', "utf-16", ""),
        ('{"label": "cup"}', "utf-16-le", ""),
        ('{"label": "cup"}', "utf-16-be", ""),
        ("cup", "utf-32", ""),
        ("杯子\n停车标志\n", "gbk", "gb18030"),
        ('{"label": "杯子", "imagePath": "照片.jpg"}', "gb18030", "gb18030"),
        ("카메라\n자동차\n번호판\n", "cp949", "cp949"),
        ("カメラ\n自動車\n", "shift_jis", "cp932"),
        ("ナンバープレート", "cp932", "cp932"),
        ("Straße\nMöbel\n", "latin-1", "cp1252"),
        ("façade, piéton\n", "latin-1", "cp1252"),
    ],
)
def test_a_text_is_read_in_the_encoding_it_was_written_in(text, encoding, said):
    assert decode_text(text.encode(encoding)) == (text, said)


@pytest.mark.parametrize("data", [b"\x00\x00\x01", b"\xff\xfe\x00", b"\x81", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"])
def test_what_is_no_text_is_refused(data):
    with pytest.raises(NotTextError):
        decode_text(data)


def test_wide_text_becomes_utf8_and_all_else_stays():
    assert as_utf8('{"a": 1}'.encode("utf-16")) == b'{"a": 1}'
    assert as_utf8('{"a": 1}'.encode("utf-16-be")) == b'{"a": 1}'
    for data in (b"", b"{}", "ß".encode("latin-1"), b"\x00"):
        assert as_utf8(data) is data
