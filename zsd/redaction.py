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
_PARAMETER = re.compile(rf"(?P<kept>[?&;](?:{_SECRET_KEY})=)[^\s\"'<>&;#\\]+", re.IGNORECASE)
_TOKEN = re.compile(r"(?P<kept>\b(?:hf|ghp|github_pat)_)[A-Za-z0-9_]{16,}")


def redacted(text: str) -> str:
    """The text with every password of a URI, secret parameter of a query and access token replaced by ``***``.

    ``s3://key:secret@bucket/a`` gives ``s3://***@bucket/a``, ``?X-Amz-Signature=ab12`` gives ``?X-Amz-Signature=***``.
    A user without a password stays: ``abfs://container@account`` names a container there.
    """
    text = _PASSWORD.sub(rf"\g<kept>{HIDDEN}@", text)
    text = _PARAMETER.sub(rf"\g<kept>{HIDDEN}", text)
    return _TOKEN.sub(rf"\g<kept>{HIDDEN}", text)


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
