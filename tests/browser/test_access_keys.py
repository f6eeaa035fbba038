"""Access keys in a real browser, and unmodified SDKs that sign with them against a real console."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from alibabacloud_ecs20140526 import models
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.exceptions import ClientException
from alibabacloud_tea_openapi.models import Config
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import CommonRequest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, PATIENCE_MS, Console
from tests.browser.looks import RULES

REGION = "local"
SCRIPT = "echo '{{who}}'; echo problem >&2; exit {{code}}\n"
LONGEST = SCRIPT + "# " + "ü" * 6_800
"""With its values almost 18 KB after Base64, and three times that in an address."""
MAKE = """
from django.utils import timezone
from commands.models import User
from commands.services import access_keys, teams
made = access_keys.create_key(
    actor=User.objects.get(username={name!r}), team=teams.first_team(), name="Looks {key}",
    days=None, now=timezone.now(),
)
print(made.uid, made.secret)
"""


@pytest.fixture
def key(console: Console, member) -> tuple[str, str]:
    """Id and secret of a new key of an operator."""
    name = member("operator")
    told = console.manage("shell", "-c", MAKE.format(name=name, key=name.partition("-")[2]))
    uid, secret = told.split()[-2:]
    return uid, secret


def sdk(console: Console, key: tuple[str, str], **options: str) -> Client:
    """The SDK, with nothing but its configuration; patient, as it waits ten seconds by itself."""
    return Client(
        Config(
            access_key_id=key[0],
            access_key_secret=key[1],
            endpoint=urlsplit(console.url).netloc,
            protocol="http",
            region_id=REGION,
            connect_timeout=PATIENCE_MS,
            read_timeout=PATIENCE_MS,
            **options,
        )
    )


def patiently(ask: Callable[[], object]) -> None:
    """Ask again until the answer is true."""
    deadline = time.monotonic() + PATIENCE_MS / 1_000
    while not ask():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def team() -> str:
    """A team of its own, so that pages of others show nothing of these keys."""
    return f"Keys {secrets.token_hex(3)}"


def instances(client: Client) -> list[str]:
    body = client.describe_instances(models.DescribeInstancesRequest(region_id=REGION)).body
    return [each.instance_id for each in body.instances.instance if each.status == "Running"]


@pytest.mark.parametrize("signed", [{}, {"signature_algorithm": "v2"}], ids=["V3", "V1"])
def test_the_new_sdk_runs_a_command_and_reads_what_came_of_it(console, key, signed):
    client = sdk(console, key, **signed)
    first, second, *_ = instances(client)
    task = client.run_command(
        models.RunCommandRequest(
            region_id=REGION,
            type="RunShellScript",
            name="Looks greeting",
            command_content=LONGEST,
            enable_parameter=True,
            parameters={"who": "grüße ~*+&", "code": "0"},
            instance_id=[first, second],
            client_token=f"once-{key[0]}",
        )
    ).body
    wanted = models.DescribeInvocationResultsRequest(region_id=REGION, invoke_id=task.invoke_id)

    def results() -> list:
        body = client.describe_invocation_results(wanted).body
        found = body.invocation.invocation_results.invocation_result
        return [each for each in found if each.invocation_status not in {"Pending", "Running"}]

    patiently(lambda: len(results()) == 2)
    for result in results():
        assert (result.invocation_status, result.exit_code) == ("Success", 0)
        assert result.invoke_record_status == "Finished"
        lines = base64.b64decode(result.output).decode().splitlines()
        assert sorted(lines) == ["grüße ~*+&", "problem"]
        assert result.finished_time.endswith("Z")


def test_a_saved_command_is_kept_run_failed_stopped_and_deleted(console, key):
    client = sdk(console, key)
    instance = instances(client)[0]
    content = base64.b64encode(SCRIPT.encode()).decode()
    made = client.create_command(
        models.CreateCommandRequest(
            region_id=REGION,
            name=f"Looks {key[0]}",
            type="RunShellScript",
            command_content=content,
            enable_parameter=True,
        )
    ).body
    listed = client.describe_commands(
        models.DescribeCommandsRequest(region_id=REGION, name=f"Looks {key[0]}")
    ).body.commands.command[0]
    assert (listed.command_id, listed.command_content) == (made.command_id, content)
    assert listed.parameter_names.parameter_name == ["who", "code"]

    def invoke(code: str) -> str:
        return client.invoke_command(
            models.InvokeCommandRequest(
                region_id=REGION,
                command_id=made.command_id,
                instance_id=[instance],
                parameters={"who": "Lin", "code": code},
            )
        ).body.invoke_id

    def state(task: str) -> str:
        body = client.describe_invocations(
            models.DescribeInvocationsRequest(region_id=REGION, invoke_id=task)
        ).body
        return body.invocations.invocation[0].invocation_status

    failed = invoke("3")
    patiently(lambda: state(failed) == "Failed")
    long = invoke("0; sleep 600")
    client.stop_invocation(models.StopInvocationRequest(region_id=REGION, invoke_id=long))
    patiently(lambda: state(long) in {"Stopped", "Success"})
    delete = models.DeleteCommandRequest(region_id=REGION, command_id=made.command_id)
    client.delete_command(delete)
    with pytest.raises(ClientException) as raised:
        client.delete_command(delete)
    assert (raised.value.code, raised.value.status_code) == ("InvalidCmdId.NotFound", 404)


def test_the_old_sdk_asks_and_is_refused_in_words_that_it_knows(console, key):
    def ask(secret: str, action: str, **given: str) -> bytes:
        patience = PATIENCE_MS // 1_000
        client = AcsClient(
            key[0],
            secret,
            REGION,
            auto_retry=False,
            timeout=patience,
            connect_timeout=patience,
        )
        request = CommonRequest()
        request.set_domain(urlsplit(console.url).netloc)
        request.set_protocol_type("http")
        request.set_method("POST")
        request.set_version("2014-05-26")
        request.set_action_name(action)
        for name, value in {"RegionId": REGION, **given}.items():
            request.add_body_params(name, value)
        return client.do_action_with_exception(request)

    assert b'"CloudAssistantStatus": "true"' in ask(key[1], "DescribeCloudAssistantStatus")
    with pytest.raises(ServerException) as raised:
        ask(key[1], "StopInvocation", InvokeId="t-none")
    assert raised.value.get_error_code() == "InvalidInvokeId.NotFound"
    assert raised.value.get_http_status() == 404
    with pytest.raises(ServerException) as raised:
        ask("wrong", "DescribeCloudAssistantStatus")
    assert raised.value.get_error_code() == "SignatureDoesNotMatch"


def make_key(page: Page, name: str) -> tuple[str, str]:
    """Make a key on the page; its id and secret."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Expires").select_option("30")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("heading", name=f"The access key {name} is created")).to_be_visible()
    return page.locator("#key-id").inner_text(), page.locator("#key-secret").inner_text()


def test_a_key_is_made_used_seen_to_be_used_and_revoked(console: Console, visit, member, team):
    page = visit(username=member("operator", team))
    page.get_by_role("link", name="Access keys").click()
    expect(page.get_by_role("heading", name="No access keys yet")).to_be_visible()
    page.wait_for_load_state()
    assert Axe().run(page, options=RULES).response["violations"] == []
    uid, secret = make_key(page, "Nightly")
    page.wait_for_load_state()
    assert Axe().run(page, options=RULES).response["violations"] == []
    page.get_by_role("button", name="Copy Access key secret").click()
    expect(page.locator("#say")).to_have_text(re.compile("Copied|Couldn't be copied"))
    row = page.locator(f'[data-key="{uid}"]')
    expect(row).to_contain_text("Never used")
    page.goto("/team/keys/")
    expect(row).to_be_visible()
    assert secret not in page.content()

    client = sdk(console, (uid, secret))
    assert instances(client) == []  # none is this team's
    page.reload()
    expect(row).to_contain_text("just now from 127.0.0.1")

    row.get_by_role("link", name="Revoke").click()
    expect(page.get_by_role("heading", name="Revoke Nightly?")).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("The access key Nightly is revoked.")).to_be_visible()
    expect(row).to_contain_text("Revoked")
    with pytest.raises(ClientException) as raised:
        instances(client)
    assert raised.value.code == "InvalidAccessKeyId.NotFound"


def test_on_a_narrow_screen_without_scripts(visit, member, team):
    options = {"viewport": {"width": 390, "height": 800}, "java_script_enabled": False}
    page = visit(username=member("viewer", team), **options, at="/team/keys/")
    make_key(page, "Looks")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Revoke Looks").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("The access key Looks is revoked.")).to_be_visible()
