"""What unit tests share."""

from collections.abc import Iterator

import pytest

from tests.s3_server import Server, credentials, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """An S3 server with an empty bucket ``bucket``, and its credentials in the environment of a file's tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials().items():
            patch.setenv(name, value)
        with s3_server() as running:
            running.make_bucket("bucket")
            yield running
