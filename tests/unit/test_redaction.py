from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zsd.config import LabelConfig
from zsd.errors import ConfigError
from zsd.redaction import redacted, refuse_secrets

SECRETS = [
    "s3://AKIAKEY:se/cr+et@bucket/corpus.parquet",
    "https://user:pa@ss:word@host.example/x",
    "postgresql://mlflow:secret@db:5432/mlflow",
    "s3://bucket/a?region=x&X-Amz-Signature=secret&scheme=https",
    "https://h/x?X-Amz-Credential=secret&X-Amz-Security-Token=secret2",
    "abfs://c@account/x?sig=secret",
    "abfs://c@account/x?client_secret=secret&tenant_id=t",
    "gs://b/x?ACCESS_KEY=secret",
    "hf_secretsecretsecretsecret",
    "glpat-secretsecretsecret",
    "Authorization: Bearer secretsecretsecret.secret==",
    "AWS_SECRET_ACCESS_KEY=secret/s+x",
    "env RAY_AUTH_TOKEN=secret ray status",
    "SECRET=secret",
    "{'api_key': 'secret'}",
    'AWS_SECRET_ACCESS_KEY="secret/s+x"',
    "export API_KEY=/secret",
    '{"access_key": "secret", "api_key": "secret", "aws_session_token":"secret"}',
]
HARMLESS = [
    "s3://bucket/a?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1",
    "abfs://container@account.dfs.core.windows.net/a",
    "hdfs://alice@namenode:8020/a",
    "http://127.0.0.1:8000/healthz",
    "at 10:30 write to me@example.org, ratio 1:2 @ home",
    "C:/data/a@b.csv",
    "s3://bucket/mail@host/a:b",
    '{"pad_token": "[PAD]", "tokenizer_class": "BertTokenizer", "tokens": 12, "secret": null}',
    "a bearer of good news, MAX_TOKENS=12 a row",
    "TOKENIZERS_PARALLELISM=false",
]
FRAGMENTS = [
    *(
        "s3://",
        "http://",
        "user",
        ":",
        "@",
        "/",
        "?",
        "&",
        ";",
        ",",
        "#",
        "<",
        ".",
        "-",
        "=",
        "\\",
        "'",
        '"',
        " ",
        "\n",
    ),
    *("sig=", "X-Amz-Signature=", "API_KEY=", "SECRET", "_TOKEN", "hf_", "Bearer ", "secretsecretsecret", "***", "*"),
    *("'password': '", '"api_key": "'),
]
"""What secrets and the patterns for them are made of."""


@pytest.mark.parametrize("text", SECRETS)
def test_no_secret_is_left_and_the_place_still_is(text: str) -> None:
    shown = redacted(f"cannot read '{text}': denied")
    assert "secret" not in shown.replace("client_secret", "")
    assert "word" not in shown
    assert shown.startswith("cannot read '")
    assert shown.endswith("': denied")
    assert "***" in shown
    assert redacted(shown) == shown


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
    refuse_secrets(text, "--data")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("quote", ["", '"', "'"])
@pytest.mark.parametrize(
    "text",
    [
        *SECRETS,
        'password with a "quote"',
        r"API_KEY=secret\x",
        "API_KEY=",
        "'password': 'secret",
        "'password':",
        'API_KEY="',
        'API_KEY="secret\nHF_TOKEN=',
    ],
)
def test_json_without_secrets_is_json(text: str, quote: str, indent: int | None) -> None:
    told = f"it was {quote}{text}{quote} again"
    content = {"examples": [text, told, [told]], "password": f'"{text}\\'}
    shown = json.loads(redacted(json.dumps(content, indent=indent)))
    assert len(shown["examples"]) == 3
    assert shown["password"] == "***"


@given(st.from_regex(r"[A-Za-z0-9+=/!$%^*()]{8,30}", fullmatch=True), st.sampled_from(["s3", "https", "abfs"]))
def test_any_password_of_a_uri_goes(password: str, scheme: str) -> None:
    assert redacted(f"{scheme}://user:{password}@host/path") == f"{scheme}://***@host/path"


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
@example(";API_KEY=#,")
@example("?API_KEY=a,b<c,d&e")
@example("http://hf_secretsecret/secretsecret:word@host")
def test_what_is_redacted_stays_as_it_is(text: str) -> None:
    shown = redacted(text)
    assert redacted(shown) == shown


@pytest.mark.parametrize("around", ["{}: denied", "cannot read {}, try again", "(see {}).", "{}:", "[{}]: no", "{}:\n"])
@pytest.mark.parametrize("text", SECRETS)
def test_a_message_around_what_was_redacted_stays_whole(text: str, around: str) -> None:
    message = around.format(redacted(text))
    assert redacted(message) == message


@pytest.mark.parametrize("field", ["data", "output", "labels", "teacher", "ray_address", "reuse"])
@pytest.mark.parametrize("text", SECRETS[:1] + SECRETS[3:4])
def test_a_configuration_refuses_a_secret_without_repeating_it(field: str, text: str) -> None:
    asked: dict[str, object] = {"data": ("a.txt",), "output": "out", "labels": "l.txt"}
    asked[field] = (text,) if field in ("data", "reuse") else text
    with pytest.raises(ConfigError, match="must hold no secret") as caught:
        LabelConfig(**asked)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"--{field.replace('_', '-')} s3://")
    assert "se/cr" not in message
    assert "=secret" not in message
