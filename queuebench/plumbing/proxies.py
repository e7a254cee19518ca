"""Who is reached through the environment's proxy: whoever is not the project's own."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy


def is_own(url: str) -> bool:
    """Tell whether a URL names this machine or a neighbour: a loopback address, or a name without a dot."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".docker.internal"))
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, NO_PROXY honoured; None: reach it directly."""
    if is_own(url):
        return None
    return select_proxy(url, get_environ_proxies(url, no_proxy=None)) or None


def direct_session() -> requests.Session:
    """Return a session for the project's own services: no proxy, whatever the environment says; no .netrc."""
    session = requests.Session()
    session.verify = ca_bundle()
    session.trust_env = False
    return session


def ca_bundle() -> bool | str:
    """Return the CA bundle that the environment names as it does for `requests`; True: requests' own."""
    found = requests.Session().merge_environment_settings("", {}, None, None, None)["verify"]
    return True if found is None else found


def session_for(url: str) -> requests.Session:
    """Return a session that reaches a URL as a POST to it would be sent."""
    session, proxy = direct_session(), proxy_of(url)
    if proxy:
        session.proxies = {"http": proxy, "https": proxy}
    return session
