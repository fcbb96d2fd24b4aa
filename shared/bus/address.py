"""What the URL of a broker says about TLS, in the words of RabbitMQ's own URIs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

FILES = {"cacertfile": "ca_certs", "certfile": "certfile", "keyfile": "keyfile"}
"""Of the authority that signed the broker's certificate, where the system does not know it; and of our own certificate, where the broker asks."""


def divided(url: str) -> tuple[str, dict[str, Any] | None]:
    """The URL without its query, and how its TLS is to be: None where there is none. The broker's certificate must be its host's, and signed
    by an authority that the system knows, or by the one in `cacertfile`. Raises ValueError for what is not understood or cannot be read."""
    try:
        address = urlsplit(url)
    except ValueError:
        raise ValueError(
            "it cannot be read as a URL: look at what stands between // and the next /"
        ) from None  # the library would quote the password
    told = dict(parse_qsl(address.query, keep_blank_values=True))
    if told.keys() - FILES.keys():  # not quoted: it may be a password's end
        raise ValueError(f"after the ? only {', '.join(FILES)} are understood; in a password it is written %3F")
    if address.scheme != "amqps":
        if told:
            raise ValueError(f"{min(told)} is of use with amqps:// only")
        return url, None
    for name, path in told.items():
        if not Path(path).is_file() or not os.access(path, os.R_OK):
            raise ValueError(f"{name}: {path or 'nothing'} is no file that can be read")
    if ("certfile" in told) != ("keyfile" in told):
        raise ValueError("certfile and keyfile belong together")
    return address._replace(query="").geturl(), {"server_hostname": address.hostname} | {FILES[name]: path for name, path in told.items()}
