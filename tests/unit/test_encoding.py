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


CHINESE = [
    "人",
    "汽车",
    "车",
    "卡车",
    "狗",
    "划痕",
    "安全帽",
    "火",
    "苹果",
    "气泡",
    "不良",
    "螺母",
    "垫圈",
    "杯子",
    "零件",
    "缺陷",
    "裂纹",
    "猫狗",
]
WESTERN = [
    "Größe",
    "größe",
    "Schlüssel",
    "ação",
    "créée",
    "coração",
    "Café",
    "Straße",
    "señal",
    "Ångström",
    "naïve",
    "Ölfilter",
]
KOREAN = [
    "사람",
    "자동차",
    "개",
    "고양이",
    "불량",
    "나사",
    "결함",
    "카메라",
    "번호판",
    "안전모",
    "병",
    "컵",
    "균열",
    "오염",
]
JAPANESE = ["車", "人", "自動車", "ナット", "傷", "ひび割れ", "ボルト", "犬"]


@pytest.mark.parametrize(
    ("words", "encoding", "said"),
    [
        (CHINESE, "gbk", "gb18030"),
        (WESTERN, "latin-1", "cp1252"),
        (KOREAN, "cp949", "cp949"),
        (JAPANESE, "cp932", "cp932"),
    ],
)
def test_single_words_are_read_in_the_encoding_of_their_language(words, encoding, said):
    read = {word: decode_text(f'{{"label": "{word}"}}'.encode(encoding)) for word in words}
    assert read == {word: (f'{{"label": "{word}"}}', said) for word in words}


@pytest.mark.parametrize(
    ("words", "encoding", "said"),
    [
        ([*CHINESE, "猫", "è"], "gbk", "gb18030"),
        ([*WESTERN, "é"], "latin-1", "cp1252"),
        ([*KOREAN, "훙"], "cp949", "cp949"),
    ],
)
def test_the_files_beside_one_another_are_read_in_one_encoding(tmp_path, words, encoding, said):
    for number, word in enumerate(words):
        (tmp_path / f"{number}.json").write_bytes(word.encode(encoding, errors="ignore"))
    for number, word in enumerate(words):
        path = tmp_path / f"{number}.json"
        if data := path.read_bytes():
            assert decode_text(data, path) == (word, said)


@pytest.mark.parametrize("text", ["è", "Größe", "кот", "猫", "고양이"])
def test_utf8_stays_utf8_where_most_files_are(tmp_path, text):
    (tmp_path / "odd.json").write_bytes("人".encode("gbk"))
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(text, "utf-8")
    assert decode_text((tmp_path / "0.json").read_bytes(), tmp_path / "0.json") == (text, "")


@pytest.mark.parametrize("data", [b"\x00\x00\x01", b"\xff\xfe\x00", b"\x81", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"])
def test_what_is_no_text_is_refused(data):
    with pytest.raises(NotTextError):
        decode_text(data)


def test_wide_text_becomes_utf8_and_all_else_stays():
    assert as_utf8('{"a": 1}'.encode("utf-16")) == b'{"a": 1}'
    assert as_utf8('{"a": 1}'.encode("utf-16-be")) == b'{"a": 1}'
    for data in (b"", b"{}", "ß".encode("latin-1"), b"\x00"):
        assert as_utf8(data) is data
