"""Sentences in the reader's language: raised ones, and ones that were stored before."""

from __future__ import annotations

import pytest
from django.utils import translation

from commands import words
from commands.errors import Invalid, QuotaExceeded
from commands.execution import sentences
from commands.rules import content, quotas, rate
from commands.services import endings


def test_a_sentence_with_values_is_retold_with_the_same_values():
    template = words.kept("The lamp %(name)s is broken, %(n)s times.")
    stored = template % {"name": "50% off", "n": 3}
    assert words.retold(stored) == stored


def test_what_is_not_known_stays_as_it_is():
    assert words.retold("") == ""
    assert words.retold("ssh: 100% lost") == "ssh: 100% lost"


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ("The script was stopped on the instance.", "脚本已在实例上被停止。"),
        ("The script ended with exit code 3.", "脚本已结束，退出码为 3。"),
        (
            endings.never_started("Zhao Min")["error_info"],
            "由 Zhao Min 停止，尚未开始，未执行任何内容。",
        ),
        (endings.left_sentence("Stopped", 0), "已停止，剩余 0 个进程。"),
        (
            rate.limit_sentence(3, 1_200),
            "1,200 个中有 3 个失败，已达到本任务的上限，未在此处开始执行。",
        ),
        (
            sentences.JUMP_HOST % {"what": sentences.SILENT % {"where": "It", "seconds": 5}},
            "无法使用跳板机。它 在 5 秒内没有响应。请检查地址和防火墙。",
        ),
        (
            sentences.SAID
            % {
                "what": sentences.NO_SUDO % {"user": "deploy", "run_as": "app"},
                "said": "sh: sudo: not found",
            },
            (
                "实例上未安装 sudo，因此 deploy 无法以 app 身份执行命令。请安装 sudo，并用 visudo "
                "添加一行“deploy ALL=(app) NOPASSWD: /bin/sh”。实例返回：sh: sudo: not found"
            ),
        ),
    ],
)
def test_what_was_stored_in_english_is_told_in_the_readers_language(stored, told):
    assert words.retold(stored) == stored
    with translation.override("zh-hans"):
        assert words.retold(stored) == told


def test_rules_raise_sentences_in_the_language_in_force():
    with translation.override("zh-hans"), pytest.raises(Invalid) as raised:
        content.check_timeout("1000000000")
    assert "秒" in raised.value.message
    with pytest.raises(Invalid) as raised:
        content.check_timeout("1000000000")
    assert raised.value.message.startswith("Timeout can't be longer than ")


def test_a_quota_is_told_in_the_language_in_force():
    usage = quotas.Usage(quotas.Quota.INSTANCES_PER_TASK, "", 0, 1)
    assert quotas.exceeded(usage, asked=2).message == "Select 1 instance. You have 2."
    usage = quotas.Usage(quotas.Quota.INSTANCES_PER_TASK, "", 0, 1_000)
    english = quotas.exceeded(usage, asked=2_000)
    assert english.message == "Select 1,000 instances or fewer. You have 2,000."
    assert isinstance(english, QuotaExceeded)
    with translation.override("zh-hans"):
        assert "1,000" in quotas.exceeded(usage, asked=2_000).message != english.message
