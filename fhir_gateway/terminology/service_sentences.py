"""What the terminology service says, in the languages that the gateway speaks.

A caller who asks for Chinese names (displayLanguage zh) is told in Chinese what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Longest text of a caller's that is said back.
_LONGEST = 200

#: sentence -> (English, Chinese)
_SENTENCES: Mapping[str, tuple[str, str]] = {
    "no-coding": (
        "There is no coding to judge; a text alone says no code",
        "没有可校验的编码；仅有文字不能视为编码",
    ),
    "no-system": (
        "The code '{code}' has no system, so nobody can tell which code it is; give the system",
        "编码“{code}”没有给出编码系统，无法判断其含义；请给出编码系统",
    ),
    "no-code": ("There is no code to judge", "没有给出编码"),
    "not-inferred": (
        "No system of this value set has the code '{code}'",
        "该值集的编码系统中没有编码“{code}”",
    ),
    "inferred-twice": (
        "Several systems of this value set have the code '{code}': {systems}; give the system",
        "该值集中有多个编码系统包含编码“{code}”：{systems}；请给出编码系统",
    ),
    "unknown-system": (
        "The code system {system} is not known here, so the code '{code}' cannot be judged",
        "本系统没有编码系统 {system}，无法判断编码“{code}”是否有效",
    ),
    "likely-system": ("; {likely} is probably meant", "；可能应为 {likely}"),
    "value-set-as-system": (
        "; this is the url of a value set, whose codes are of {likely}",
        "；这是值集的地址，其编码属于 {likely}",
    ),
    "unknown-version": (
        "Version {version} of the code system {system} is not here, so the code '{code}' cannot be "
        "judged; known: {known}",
        "本系统没有编码系统 {system} 的版本 {version}，无法判断编码“{code}”；已有版本：{known}",
    ),
    "unknown-code": (
        "The code '{code}' is not in the code system {system}",
        "编码系统 {system} 中没有编码“{code}”",
    ),
    "code-spelled": ("; did you mean '{likely}'?", "；是否为“{likely}”？"),
    "in-fragment": (
        "The code '{code}' is not in the part of the code system {system} that is here, so it "
        "cannot be judged",
        "本系统仅有编码系统 {system} 的一部分，其中没有编码“{code}”，无法判断",
    ),
    "listed-only": (
        "The value set lists '{code}', but the code system {system} is not here, or not all of it, "
        "so its name could not be checked",
        "值集列出了“{code}”，但本系统没有编码系统 {system} 或其内容不完整，无法核对其名称",
    ),
    "abstract": (
        "The code '{code}' is abstract: it groups other codes and cannot be used itself",
        "编码“{code}”为抽象编码，仅用于归类，不能直接使用",
    ),
    "inactive": (
        "The code '{code}' of {system} is retired (inactive)",
        "{system} 的编码“{code}”已停用",
    ),
    "retired-active-only": (
        "The code '{code}' of {system} is retired, and only active codes are asked for",
        "{system} 的编码“{code}”已停用，而请求只接受有效编码",
    ),
    "display": (
        "'{display}' is no name of the code '{code}' of {system}; it is called {names}",
        "“{display}”不是 {system} 中编码“{code}”的名称；其名称为：{names}",
    ),
    "display-of-other": (
        "; '{display}' is the name of the code '{other}'",
        "；“{display}”是编码“{other}”的名称",
    ),
    "nameless": (
        "The code '{code}' of {system} has no name here that '{display}' could be compared with",
        "{system} 的编码“{code}”在本系统中没有名称，无法核对“{display}”",
    ),
    "display-spelled": (
        "The name '{display}' is spelled '{name}' in {system}",
        "名称“{display}”在 {system} 中写作“{name}”",
    ),
    "not-in-value-set": (
        "The code '{code}' of {system} is not in the value set {value_set}",
        "{system} 的编码“{code}”不在值集 {value_set} 中",
    ),
    "in-under-other": (
        "; the value set has this code in the system {likely}",
        "；该值集中的此编码属于编码系统 {likely}",
    ),
    "cannot-tell": (
        "Whether the code '{code}' of {system} is in the value set {value_set} cannot be told: "
        "{missing} is not here or not complete",
        "无法判断 {system} 的编码“{code}”是否在值集 {value_set} 中："
        "本系统没有 {missing} 或其内容不完整",
    ),
    "other-version": (
        "The value set takes version {wanted} of {system}, the code is of version {version}",
        "该值集使用 {system} 的版本 {wanted}，而编码属于版本 {version}",
    ),
}


def say(sentence: str, language: str, /, **values: str) -> str:
    """A sentence in Chinese when that is the language, else in English."""
    english, chinese = _SENTENCES[sentence]
    text = chinese if language.lower().split("-")[0] == "zh" else english
    return text.format_map({name: _short(value) for name, value in values.items()})


def _short(value: str) -> str:
    plain = "".join(letter if letter.isprintable() else "�" for letter in value)
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"
