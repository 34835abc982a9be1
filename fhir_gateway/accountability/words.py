"""What ledgers say in words, in Chinese and English: the acts, and the purposes of use."""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.audit.events_read import Act
from fhir_gateway.security.policy import Policy


class Words(NamedTuple):
    """The same thing in two languages."""

    zh: str
    en: str

    @property
    def both(self) -> str:
        """Both, where one text must do."""
        return f"{self.zh} ({self.en})" if self.zh != self.en else self.zh


_ACTS = {
    "read": Words("读取", "Read"),
    "search": Words("查询", "Searched"),
    "decision": Words(
        "开单时查询可互认结果", "Asked at an order for results that can be recognised"
    ),
    "answer": Words("医生答复互认建议", "Doctor's answer to a recommendation"),
    "disclosure": Words("向外提供", "Handed out"),
    "break-glass": Words("紧急访问", "Emergency access (break-glass)"),
    "create": Words("新建", "Created"),
    "update": Words("修改", "Changed"),
    "delete": Words("删除", "Deleted"),
    "received": Words("接收", "Received"),
    "refusal": Words("请求被拒绝", "Refused"),
    "login": Words("获取访问令牌", "Was given an access token"),
    "credential": Words("签发或吊销凭据", "Credential issued or revoked"),
    "administration": Words("系统管理", "Administration"),
    "operation": Words("其他操作", "Other operation"),
}
#: Every kind of act.
KINDS = frozenset(_ACTS)

_UNSTATED = Words("未说明", "not stated")

#: Purposes that mean an emergency, whatever the act.
EMERGENCIES = frozenset({"BTG", "ETREAT"})


def act_words(act: Act) -> Words:
    """What was done."""
    return _ACTS[act.kind]


def purpose_words(policy: Policy, act: Act) -> Words:
    """Why it was done: by the site's table of purposes, else the code itself."""
    if not act.purpose:
        return _UNSTATED
    names = policy.purposes.names.get(act.purpose)
    return Words(*names) if names else Words(act.purpose, act.purpose)


def is_emergency(act: Act) -> bool:
    """Whether it was a break-glass, or was done under one."""
    return act.kind == "break-glass" or act.purpose in EMERGENCIES or act.basis == "emergency"
