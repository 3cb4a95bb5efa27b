"""Which addresses of an upstream are safe to send keys to (requirement C13)."""

from urllib.parse import urlsplit

from keywheel.addresses import is_loopback_name


def url_fault(url: str) -> str | None:
    """What is wrong with a base URL, None when nothing is. Keys travel in plain text on loopback only."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "must look like https://host/path"
    if "@" in parts.netloc:  # said first, and without the URL: what stands before the @ is a secret
        return "must not hold a user or a password"
    if parts.scheme not in ("https", "http") or not host:
        return "must look like https://host/path"
    if parts.scheme == "http" and not is_loopback_name(host):
        return f"must begin with https:// (http is for loopback only, and {host} is not)"
    return None
