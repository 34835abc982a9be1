"""What each level of each field is called, in Chinese and English; no value is ever told.

One row for each level that `compare.py` and `compare_names.py` give: a level without a sentence
fails a test. hl7.org/fhir/R4/extension-match-grade.html has the grades.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Text(NamedTuple):
    """One sentence in two languages."""

    zh: str
    en: str


FIELD_NAMES: Mapping[str, Text] = {
    "document": Text("身份证件", "Identity document"),
    "name": Text("姓名", "Name"),
    "birth": Text("出生日期", "Birth date"),
    "sex": Text("性别", "Sex"),
    "phone": Text("联系方式", "Telephone or e-mail"),
    "address": Text("住址", "Address"),
    "card": Text("健康卡或医保号", "Health card or insurance number"),
    "number": Text("机构患者号", "Institution's patient number"),
    "mother": Text("母亲姓名", "Mother's name"),
    "order": Text("多胞胎次序", "Order of a multiple birth"),
}

_UNKNOWN = Text("无法比较", "cannot be compared")
_SAME, _OTHER = Text("一致", "the same"), Text("不一致", "different")
_SLIP = Text("仅差一位或两位互换", "one digit differs, or two have changed places")

WORDS: Mapping[str, Mapping[str, Text]] = {
    "document": {
        "same": Text("同一证件号码", "the same number"),
        "contradicted": Text(
            "号码相同，但与其中一份记录的出生日期矛盾",
            "the same number, but it contradicts the birth date of one record",
        ),
        "same-faulty": Text(
            "同一个不合校验规则的号码", "the same number, with a wrong check digit"
        ),
        "slip": _SLIP,
        "other": Text("同类证件，号码不同", "another number of the same kind of document"),
        "other-card": Text("身份证号码不同", "another identity card number"),
        "unknown": _UNKNOWN,
    },
    "name": {
        "same-long": _SAME,
        "same-three": _SAME,
        "same-two": _SAME,
        "same-latin": Text("拉丁字母写法一致", "the same in Latin letters"),
        "variant": Text("繁体或异体写法", "the same in traditional or variant characters"),
        "reordered": Text("各部分相同，次序不同", "the same parts in another order"),
        "former": Text("与曾用名一致", "agrees with a former name"),
        "sound": Text("同音或近音", "another spelling of the same sound"),
        "spelled": Text("拼音一致", "agrees with its pinyin"),
        "lost": Text("除一个无法辨认的字外一致", "the same but for a sign that was lost"),
        "newborn": Text("同一母亲的新生儿称谓", "a newborn called by the same mother's name"),
        "part": Text("一方仅含姓名的一部分", "one record has only a part of the name"),
        "one-character": Text("仅一字不同", "one character differs"),
        "surname": Text("名相同，姓不同", "the same given name, another surname"),
        "given": Text("姓相同，名不同", "the same surname, another given name"),
        "unknown": _UNKNOWN,
        "spelled-other": Text("拼写与汉字读音不符", "the spelling is not this name's pinyin"),
        "other": _OTHER,
    },
    "birth": {
        "same": _SAME,
        "same-default": Text("一致，但均为1月1日", "the same, but both are 1 January"),
        "month": Text("年月一致，一方无日", "year and month agree, one has no day"),
        "year": Text("年份一致，一方仅有年份", "the year agrees, one has nothing more"),
        "swapped": Text("日月互换", "day and month have changed places"),
        "default": Text("年份一致，一方为1月1日", "the year agrees, one is 1 January"),
        "lunar": Text(
            "可能为同一日的农历与公历", "may be one day in the lunar and the solar calendar"
        ),
        "slip": _SLIP,
        "other": _OTHER,
        "unknown": _UNKNOWN,
    },
    "sex": {"same": _SAME, "other": _OTHER, "unknown": _UNKNOWN},
    "phone": {"same": _SAME, "slip": _SLIP, "other": _OTHER, "unknown": _UNKNOWN},
    "address": {
        "same": _SAME,
        "district": Text("同一区县", "the same district"),
        "city": Text("同一城市", "the same city"),
        "other": Text("不同城市", "another city"),
        "unknown": _UNKNOWN,
    },
    "card": {"same": _SAME, "slip": _SLIP, "other": _OTHER, "unknown": _UNKNOWN},
    "number": {
        "same": _SAME,
        "other": Text("同一机构，号码不同", "another number of the same institution"),
        "unknown": _UNKNOWN,
    },
    "mother": {"same": _SAME, "other": _OTHER, "unknown": _UNKNOWN},
    "order": {"same": _SAME, "other": _OTHER, "unknown": _UNKNOWN},
}

RULES: Mapping[str, Text] = {
    "document-conflict": Text(
        "同一证件号码登记在不同姓名下，属于冲突，不得关联",
        "the same identity document under another name is a conflict and never a link",
    ),
    "name-in-doubt": Text(
        "证件相同而姓名写法不同，须由人确认",
        "the document agrees and the name is spelled otherwise: a person has to confirm it",
    ),
    "mother-and-child": Text(
        "一份记录是另一份记录本人的新生儿", "one record is the newborn child of the other's person"
    ),
    "elder-document": Text(
        "证件属于年长者，可能是母亲的证件",
        "the document is an elder person's, perhaps the mother's",
    ),
    "own-document": Text(
        "一份记录登记了年长者的证件，证件不是本人的",
        "one record bears the document of an elder person, not its own",
    ),
    "unnamed-child": Text(
        "新生儿尚未命名，无法与兄弟姐妹区分",
        "a newborn without a name of its own cannot be told from its brothers and sisters",
    ),
    "birth-order": Text("多胞胎次序不同，不是同一人", "another child of the same birth"),
    "twins": Text(
        "出生日期相合而名字不同或缺失，可能是双胞胎或兄弟姐妹",
        "the birth dates agree and the given names do not, or one is missing: they may be twins",
    ),
    "two-documents": Text("两份记录各有不同的同类证件", "two documents of one kind, each its own"),
    "two-births": Text("出生日期不同且无法解释", "the birth dates differ and nothing explains it"),
    "two-sexes": Text("性别不同", "the sexes differ"),
    "two-names": Text("姓名不同", "the names differ"),
    "no-document": Text(
        "没有一致的证件与姓名，任何其他信息都不能确定是同一人",
        "without an identity document and a name that agree nothing is certain",
    ),
}
