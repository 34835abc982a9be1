"""Artificial people for the tests and the bench of identity: names from tables of characters,
numbers under area codes that no region has, right check digits. Nobody is meant by any of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import accumulate
from typing import Any

ID_SYSTEM = "urn:oid:2.16.840.1.113883.2.23.1.19.1"
SOCIAL_SYSTEM = "urn:oid:2.16.840.1.113883.2.23.1.19.2"
HEALTH_SYSTEM = "urn:oid:2.16.156.10011.1.19"
TYPES = "urn:example:CV02.01.101"
V2_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"

#: Surnames with about the share of people in ten thousand that bear them.
SURNAMES = {
    "王": 720, "李": 700, "张": 670, "刘": 510, "陈": 450, "杨": 310, "黄": 220, "赵": 215,
    "吴": 200, "周": 190, "徐": 140, "孙": 138, "马": 128, "朱": 125, "胡": 115, "郭": 112,
    "何": 108, "林": 106, "高": 100, "罗": 95, "郑": 90, "梁": 85, "谢": 76, "宋": 74, "唐": 72,
    "许": 66, "邓": 65, "韩": 63, "冯": 62, "曹": 60, "彭": 58, "曾": 57, "萧": 50, "田": 49,
    "董": 48, "潘": 46, "袁": 45, "于": 44, "蔡": 43, "蒋": 43, "余": 42, "杜": 41, "叶": 40,
    "程": 40, "魏": 39, "苏": 38, "吕": 37, "丁": 36, "任": 36, "卢": 35, "姚": 34, "沈": 34,
    "钟": 33, "姜": 33, "崔": 32, "谭": 31, "陆": 31, "范": 30, "汪": 30, "廖": 29, "石": 28,
    "金": 28, "韦": 27, "贾": 27, "夏": 26, "付": 25, "方": 25, "邹": 24, "熊": 24, "白": 23,
    "孟": 23, "秦": 22, "邱": 22, "侯": 21, "江": 21, "尹": 20, "薛": 20, "闫": 19, "段": 19,
    "雷": 18, "龙": 18, "黎": 17, "史": 17, "陶": 16, "贺": 16, "毛": 15, "郝": 15, "顾": 15,
    "龚": 14, "邵": 14, "万": 14, "覃": 13, "武": 13, "钱": 13, "戴": 12, "严": 12, "莫": 11,
    "孔": 11, "向": 10, "单": 6, "欧阳": 6, "上官": 2, "诸葛": 1,
}  # fmt: skip
#: Characters of given names, the common ones first.
GIVEN = (
    "伟芳娜敏静秀丽强磊军洋勇艳杰娟涛明超兰霞平刚桂英华玉萍红梅国建文辉玲云飞海燕春花"
    "志斌鹏宇浩凯健俊帆雪琳晶洁倩婷玥蕾薇慧巧雅芝莲真环荣爱妹香月莺媛瑞凡佳嘉琼勤珍贞莉"
    "凤清彩菊叶璧璐娅琦妍茜秋珊莎锦黛青荷苗菁睿坤昊轩梓涵欣怡诗子雨泽晨思远博文浩然宁安"
    "乐康福祥瑜瑶珂玮卫炜峰锋丰枫封龙隆荣容蓉融彬宾滨东冬栋松诚成程城承晓小孝潇霄彦燕艳雁"
    "义毅艺逸谊仪怡贻利力立莉丽励新欣鑫馨心昕辛"
)
#: Parts of transcribed names, with another transcription of each.
DOTTED_GIVEN = {
    "阿依古丽": "阿依古力", "古丽娜尔": "古丽娜儿", "买合木提": "麦合木提", "艾力": "艾里",
    "帕提古丽": "帕提古力", "吐尔逊": "吐逊", "卓玛央金": "卓玛央吉", "扎西次仁": "扎西才仁",
}  # fmt: skip
DOTTED_FAMILY = {
    "买买提": "麦麦提", "艾合买提": "艾合麦提", "吐尔洪": "吐鲁洪", "依明": "伊敏",
    "库尔班": "库儿班", "达瓦": "达娃", "多吉": "多杰", "哈斯木": "卡斯木",
}  # fmt: skip
FOREIGN_GIVEN = ("John", "Maria", "Ahmed", "Olga", "Pierre", "Yuki", "Fatima", "Carlos")
FOREIGN_FAMILY = ("Example", "Specimen", "Muster", "Sample", "Prueba", "Exemplaire", "Obrazets")
DISTRICTS = ("东河", "西山", "南湖", "北坡", "中塘", "新港", "长桥", "大营", "青石", "白塔")
CITIES = ("示例", "样本", "虚构")


def with_check(body: str) -> str:
    """Seventeen digits and their check digit (GB 11643)."""
    total = sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(body))
    return body + "10X98765432"[total % 11]


@dataclass(frozen=True)
class Person:
    """What is true of an artificial person. `home` numbers the household."""

    number: int
    family: str
    given: str
    sex: str
    born: date
    card: str
    phone: str
    home: int
    kind: str = "card"  # card, dotted, foreign, hongkong
    passport: str = ""
    social: str = ""
    mother: str = ""
    order: int = 0
    dotted: tuple[str, str] = ("", "")
    address: str = ""
    old_family: str = ""
    tags: frozenset[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        """The name in full, as the person writes it."""
        if self.kind == "foreign":
            return f"{self.given} {self.family}"
        return "·".join(self.dotted) if self.kind == "dotted" else self.family + self.given


class World:
    """Makes people, each with a number of its own. The same seed makes the same people."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._number = seed % 1_000 * 1_000_000
        self._surnames = list(SURNAMES), list(accumulate(SURNAMES.values()))
        self._common = list(accumulate(1 / (6 + place) for place in range(len(GIVEN))))

    def person(self, **known: Any) -> Person:
        """Somebody new; what is known is taken as it is."""
        chance = self.chance
        self._number += 1
        born = known.get("born") or date(1935, 1, 1) + timedelta(days=chance.randrange(33_000))
        sex = known.get("sex") or chance.choice(("male", "female"))
        kind = (
            known.get("kind")
            or chance.choices(("card", "dotted", "foreign", "hongkong"), (94, 3, 2, 1))[0]
        )
        family, given = self._name(kind)
        home = known.get("home") or self._number
        made: dict[str, Any] = {
            "number": self._number,
            "family": family,
            "given": given,
            "sex": sex,
            "born": born,
            "card": self.card(born, sex),
            "phone": self.phone(),
            "home": home,
            "kind": kind,
            "passport": self._passport(kind),
            "social": f"9{chance.randrange(10**9):09d}",
            "dotted": self._dotted() if kind == "dotted" else ("", ""),
            "address": self.address(home),
        }
        return Person(**made | known)

    def given(self, exact: int = 0) -> str:
        """A given name of one or two characters."""
        length = exact or self.chance.choices((1, 2), (18, 82))[0]
        return "".join(self.chance.choices(GIVEN, cum_weights=self._common, k=length))

    def surname(self) -> str:
        """A surname."""
        names, shares = self._surnames
        return self.chance.choices(names, cum_weights=shares)[0]

    def card(self, born: date, sex: str) -> str:
        """A number with a right check digit under an area code that no region has."""
        chance = self.chance
        order = chance.randrange(500) * 2 + (sex == "male")
        body = f"99{chance.randrange(10_000):04d}{born:%Y%m%d}{order % 1000:03d}"
        return with_check(body)

    def phone(self) -> str:
        """A number of a series that is given to nobody."""
        return f"1999{self.chance.randrange(10**7):07d}"

    def address(self, home: int) -> str:
        """The address of a household."""
        chance = random.Random(home)
        return (
            f"{chance.choice(CITIES)}市{chance.choice(DISTRICTS)}区"
            f"测试路{chance.randrange(1, 900)}号{chance.randrange(1, 40)}室"
        )

    def child(self, mother: Person, born: date | None = None, **known: Any) -> Person:
        """A child of this mother: her household, the surname of a father."""
        born = born or mother.born + timedelta(days=self.chance.randrange(7_500, 14_000))
        return self.person(
            **{
                "kind": "card", "family": mother.old_family or self.surname(),
                "given": self.given(), "born": born, "home": mother.home,
                "address": mother.address, "phone": mother.phone, "mother": mother.name,
            } | known
        )  # fmt: skip

    def twins(self, mother: Person) -> tuple[Person, Person]:
        """Two children of one birth."""
        first = self.child(mother, order=1)
        sex = self.chance.choice((first.sex, first.sex, "male", "female"))
        given = self.given(len(first.given))
        if len(given) == 2 and self.chance.random() < 0.5:  # 王小明, 王小亮
            given = first.given[0] + given[1]
        second = self.child(mother, first.born, family=first.family, sex=sex, order=2, given=given)
        while second.given == first.given:
            second = replace(second, given=self.given())
        return first, second

    def _name(self, kind: str) -> tuple[str, str]:
        if kind == "foreign":
            return self.chance.choice(FOREIGN_FAMILY), self.chance.choice(FOREIGN_GIVEN)
        return self.surname(), self.given()

    def _dotted(self) -> tuple[str, str]:
        return self.chance.choice([*DOTTED_GIVEN]), self.chance.choice([*DOTTED_FAMILY])

    def _passport(self, kind: str) -> str:
        digits = self.chance.randrange(10**8)
        return {"foreign": f"ZZ{digits:08d}"[:9], "hongkong": f"H{digits:08d}"}.get(kind, "")
