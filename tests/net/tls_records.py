"""TLS clients that write whatever records they like: OpenSSL shakes hands, then these take over.

OpenSSL sends no floods and no empty records, so the attacks are built from the session's secrets: in TLS 1.3
from the traffic secret that the key log gives (RFC 8446 sections 5.2, 7.1 to 7.3), in TLS 1.2 from the master
secret (RFC 5246 sections 5, 6.3, RFC 5288 section 3).
"""

from __future__ import annotations

import asyncio
import hmac
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

HANDSHAKE, ALERT, APPLICATION_DATA = 22, 21, 23
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
KEY_UPDATE_REQUESTED = b"\x18\x00\x00\x01\x01"


def expand_label(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 section 7.1)."""
    full = b"tls13 " + label
    info = struct.pack("!HB", length, len(full)) + full + b"\0"
    return HKDFExpand(SHA256(), length, info).derive(secret)


class RecordWriter:
    """Protects records with a traffic secret for TLS_AES_128_GCM_SHA256."""

    def __init__(self, secret: bytes) -> None:
        self._use(secret)

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(expand_label(secret, b"key", 16))
        self._iv = expand_label(secret, b"iv", 12)
        self._sequence = 0

    def record(self, kind: int, content: bytes) -> bytes:
        """One protected record; a KeyUpdate among them changes the keys as it must."""
        header = struct.pack("!BHH", APPLICATION_DATA, 0x0303, len(content) + 17)
        nonce = (int.from_bytes(self._iv, "big") ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        wire = header + self._key.encrypt(nonce, content + bytes([kind]), header)
        if kind == HANDSHAKE and content[:1] == KEY_UPDATE[:1]:
            self._use(expand_label(self._secret, b"traffic upd", 32))
        return wire


class OldRecordWriter:
    """Protects a client's records in TLS 1.2 with AES-128-GCM and SHA-256, from the second on."""

    def __init__(self, connection: SSL.Connection) -> None:
        client, server = connection.client_random(), connection.server_random()
        master = connection.master_key()
        assert client is not None
        assert server is not None
        assert master is not None
        block = prf(master, b"key expansion" + server + client, 40)
        self._key, self._salt = AESGCM(block[:16]), block[32:36]
        self._sequence = 1  # Finished was 0

    def record(self, kind: int, content: bytes) -> bytes:
        """One protected record."""
        number = struct.pack("!Q", self._sequence)
        self._sequence += 1
        tag = number + struct.pack("!BHH", kind, 0x0303, len(content))
        body = number + self._key.encrypt(self._salt + number, content, tag)
        return struct.pack("!BHH", kind, 0x0303, len(body)) + body


def prf(secret: bytes, seed: bytes, length: int) -> bytes:
    """P_SHA256 (RFC 5246 section 5)."""
    output, link = b"", seed
    while len(output) < length:
        link = hmac.digest(secret, link, "sha256")
        output += hmac.digest(secret, link + seed, "sha256")
    return output[:length]


Attack = tuple[asyncio.StreamReader, asyncio.StreamWriter, RecordWriter]


async def attacker(address: tuple[str, int]) -> Attack:
    """Shake hands with a TLS server; the socket, and what makes records for it."""
    secrets: dict[str, bytes] = {}

    def note(_connection: SSL.Connection, line: bytes) -> None:
        label, _, secret = line.decode("ascii").split()
        secrets[label] = bytes.fromhex(secret)

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
    context.set_keylog_callback(note)
    connection = SSL.Connection(context)
    connection.set_connect_state()
    reader, writer = await asyncio.open_connection(*address)
    await shake_hands(connection, reader, writer)
    return reader, writer, RecordWriter(secrets["CLIENT_TRAFFIC_SECRET_0"])


async def shake_hands(
    connection: SSL.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Drive OpenSSL over a stream until its handshake is complete."""
    while True:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            send_waiting(connection, writer)
            data = await reader.read(65_536)
            if not data:
                raise ConnectionResetError("no handshake") from None
            connection.bio_write(data)
        else:
            send_waiting(connection, writer)
            return


def send_waiting(connection: SSL.Connection, writer: asyncio.StreamWriter) -> None:
    """Write what OpenSSL has to say."""
    try:
        while True:
            writer.write(connection.bio_read(65_536))
    except SSL.WantReadError:
        return
