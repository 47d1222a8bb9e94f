"""A bare server of aiohttp, which answers every request with the same few octets.

Processes share the listening socket. Run with one argument, JSON: address, port, processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys

import uvloop
from aiohttp import web

BODY = b'{"answers":[{"known":false}]}'


async def answer(request: web.BaseRequest) -> web.Response:
    """Take the body, and say something."""
    await request.read()
    return web.Response(body=BODY, content_type="application/json")


async def serve(listening: socket.socket) -> None:
    """For ever."""
    handler = web.Server(answer, access_log=None)
    server = await asyncio.get_running_loop().create_server(handler, sock=listening, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    sock = socket.create_server((settings["address"], settings["port"]), backlog=512)
    for _ in range(settings["processes"] - 1):
        if not os.fork():
            break
    uvloop.run(serve(sock))
