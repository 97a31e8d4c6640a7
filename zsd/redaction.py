"""Secrets do not leave the process: one function that takes them out of a text, one that refuses them where they enter.

A URI must name a place, not open it: credentials come from the environment, an instance role or a mounted secret. So
a URI with a password or a key is refused before any work (`refuse_secrets`), and what is printed or stored goes
through `redacted`, because the message of a library may quote a signed URI that nobody typed.
"""

from __future__ import annotations

import re

from zsd.errors import ConfigError

HIDDEN = "***"
_SECRET_KEY = r"[\w.-]*(?:secret|passw|token|credential|signature|access_?key|account_?key|api_?key)[\w.-]*|sig|pwd"
_PASSWORD = re.compile(r"(?P<kept>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'<>@/?#\\]*:[^\s\"'<>\\]*@")
_SHOWN = r"(?!\*{3}[:,.)\]]*(?:[\s\"'\\]|$))"
"""Not before ``***`` and the punctuation of a message around it: what is hidden already stays as it is."""
_PARAMETER = re.compile(rf"(?P<kept>[?&;](?:{_SECRET_KEY})=){_SHOWN}[^\s\"'<>&;#\\]+", re.IGNORECASE)
_TOKEN = re.compile(r"(?P<kept>\b(?:(?:hf|gh[pousr]|github_pat)_|glpat-|[Bb]earer ))[A-Za-z0-9_.~+/-]{16,}=*")
_VARIABLE = re.compile(
    r"(?P<kept>\b[A-Z0-9_]*(?:SECRET|TOKEN(?!S|IZER)|PASSW|ACCESS_KEY|API_KEY)[A-Z0-9_]*=(?:\\?[\"'](?=[\w/+]))?)"
    rf"{_SHOWN}[^\s\"',;\\]+"
)
_MEMBER_KEY = (
    r"[\w.-]*(?:secret|passw|credential|access_?key|account_?key|api_?key"
    r"|(?:auth|access|session|security)_?token)[\w.-]*"
)
"""Narrower than the parameters of a query: ``pad_token`` and ``tokenizer_class`` are members of many a JSON file."""
_MEMBER = re.compile(rf"(?P<kept>([\"'])(?:{_MEMBER_KEY})\2\s*:\s*\2)(?:\\.|(?!\2)[^\\\n\"])+(?=\2)", re.IGNORECASE)


def redacted(text: str) -> str:
    """The text with every password of a URI and access token replaced by ``***``, and the value of every secret
    parameter of a query, environment variable and member of JSON.

    ``s3://key:secret@bucket/a`` gives ``s3://***@bucket/a``, ``?X-Amz-Signature=ab12`` gives ``?X-Amz-Signature=***``.
    A user without a password stays: ``abfs://container@account`` names a container there. JSON stays JSON: no match
    ends within an escape or takes a quote that closes a string. Applying it twice changes nothing more: where two
    patterns meet, one may end before what the other hides, so it goes on until nothing changes; every change but that
    of asterisks leaves fewer characters that are none.
    """
    while (shown := _hidden_once(text)) != text:
        text = shown
    return text


def _hidden_once(text: str) -> str:
    text = _PASSWORD.sub(rf"\g<kept>{HIDDEN}@", text)
    for pattern in (_PARAMETER, _VARIABLE, _MEMBER, _TOKEN):
        text = pattern.sub(rf"\g<kept>{HIDDEN}", text)
    return text


def refuse_secrets(text: str, name: str) -> None:
    """Refuse a value that holds a secret: it would end in manifests, job files and process lists.

    Args:
        text: what the user gave.
        name: what it was given for, as in ``--data``.

    Raises:
        ConfigError: it holds one.
    """
    shown = redacted(text)
    if shown != text:
        raise ConfigError(
            f"{name} {shown}: a URI must hold no secret: give credentials by the environment (AWS_ACCESS_KEY_ID, "
            "GOOGLE_APPLICATION_CREDENTIALS, ...) or a role of the machine"
        )
