"""Telling systemd (or whatever set NOTIFY_SOCKET) how the server is doing (sd_notify protocol)."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send one state such as ``READY=1``; silently nothing when nobody asked."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError:
            return  # a service manager that went away is no reason to stop mail
