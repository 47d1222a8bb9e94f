"""Seals, traces, proofs and encrypted headers: what is believed is octet for octet what was signed."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.identity.authorities import CaStores
from outrider.identity.canonical import canonical
from outrider.identity.header_encryption import EncryptionError, decrypt_headers, look_at
from outrider.identity.jws import CompactJws, JwsError, Signer, decode, encode
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.mt2_proof import PROOF_TYP, ProofError, ProofTerms, check_proof
from outrider.identity.seal_paths import PeerPaths
from outrider.identity.seals import SEAL_TYP, read_seal
from outrider.identity.trace import Circumstances, ObjectCounter, SealedMessage, verify_trace
from outrider.message.objects.envelope import LayeredEnvelope, read_envelope, write_envelope
from outrider.message.objects.errors import ObjectError
from tests.fuzz import damage
from tests.fuzz.recorded import BINDING, CLIENT, SECRET, SERVER, recorded
from tests.fuzz.running import Target, refused
from tests.identity.mt2_papers import BODY, HEADERS, NOW

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


# -- compact JWS -----------------------------------------------------------------------------------------


@cache
def _signer() -> Signer:
    found = recorded()
    return Signer.from_pem(found.one("signer", "certificate"), found.one("signer", "key"))


@cache
def _texts() -> tuple[str, ...]:
    """Compact JWS of all kinds, good seals by the signer first."""
    signed = {
        name: text.decode() for name, text in recorded().sets["signed"].items() if name != "certificate"
    }
    proofs = [data.decode().split("\n")[-2] for data in recorded().all("proofs")]
    return (*signed.values(), *proofs)


def _signed_part(text: str) -> str:
    return text.rpartition(".")[0]


def changed_jws(text: str, chance: random.Random) -> str:
    """Parts exchanged, headers and payloads rewritten without the key, signatures of other forms."""
    header, payload, signature = text.split(".")
    other = chance.choice(_texts()).split(".")
    match chance.randrange(10):
        case 0:
            header = _forged_header(header, chance)
        case 1:
            tree = damage.changed_tree(damage.json_tree(decode(header)), chance)
            header = encode(damage.json_text(tree, chance)) or "AA"
        case 2:
            tree = damage.changed_tree(damage.json_tree(decode(payload)), chance)
            payload = encode(damage.json_text(tree, chance)) or "AA"
        case 3:
            header, payload, signature = chance.choice(
                ((other[0], payload, signature), (header, other[1], signature), (header, payload, other[2]))
            )
        case 4:
            signature = _other_signature(signature, chance)
        case 5:
            header, signature = _by_hmac(header, payload)
        case 6:
            return chance.choice(
                (f"{text}.", f".{text}", f"{text}.{signature}", f"{header}.{payload}", f"{text}\n")
            )
        case 7:
            which = chance.randrange(3)
            parts = [header, payload, signature]
            parts[which] = chance.choice(
                (parts[which] + "=", parts[which] + "A", parts[which][:-1] + "B", "")
            )
            header, payload, signature = parts
        case 8:
            return text.replace("-", "+").replace("_", "/")
        case _:
            damaged = damage.octets(text.encode(), [one.encode() for one in _texts()], chance)
            return damaged.decode("utf-8", "replace")
    return f"{header}.{payload}.{signature}"


def _forged_header(header: str, chance: random.Random) -> str:
    members = json.loads(decode(header))
    name = chance.choice(("alg", "typ", "x5t#S256"))
    members[name] = chance.choice(
        ("none", "HS256", "RS256", "PS256", "EdDSA", "ES384", SEAL_TYP, PROOF_TYP, "")
    )
    return encode(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())


def _other_signature(signature: str, chance: random.Random) -> str:
    octets = decode(signature)
    half = len(octets) // 2
    r, s = octets[:half], int.from_bytes(octets[half:], "big")
    mirrored = ((_P256_ORDER - s) % _P256_ORDER).to_bytes(max(half, 32), "big")
    return encode(
        chance.choice(
            (r + mirrored, b"\x00" * len(octets), octets + b"\x00", octets[:-1], b"\x00", b"\xff" * 64)
        )
    )


def _by_hmac(header: str, payload: str) -> tuple[str, str]:
    """HS256 with the public key as its secret: what a confused verifier takes (RFC 8725 section 2.1)."""
    members = {**json.loads(decode(header)), "alg": "HS256"}
    header = encode(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())
    mac = hmac.new(recorded().one("signed", "certificate"), f"{header}.{payload}".encode(), hashlib.sha256)
    return header, encode(mac.digest())


def seal(chance: random.Random) -> bool:
    """Without the key nothing is signed; with it, only the one form of a seal is read."""
    text = chance.choice(_texts()[:8])
    is_forged = chance.random() < 0.6
    if is_forged:
        text = changed_jws(text, chance)
    elif chance.random() < 0.9:
        text = _resigned(text, SEAL_TYP, chance)
    try:
        payload = CompactJws.read(text, SEAL_TYP).verified(_signer().chain[0])
        if is_forged:
            assert _signed_part(text) in set(map(_signed_part, _texts()))
        assert encode(payload) == text.split(".")[1]
        found = read_seal(payload)
    except JwsError as error:
        return refused(error)
    assert canonical(found) == payload
    return True


def _resigned(text: str, typ: str, chance: random.Random) -> str:
    """What the holder of the key can do: sign anything."""
    payload = decode(text.split(".")[1])
    tree = damage.changed_tree(damage.json_tree(payload), chance)
    return _signer().compact(damage.json_text(tree, chance) or b"{}", typ)


# -- traces ----------------------------------------------------------------------------------------------


@cache
def _paths() -> PeerPaths:
    roots = [x509.load_der_x509_certificate(recorded().one("roots", name)) for name in ("ours", "rsa")]
    return PeerPaths(Mt2Peers(CaStores.of(private=roots)))


_WAYS = {"three": ("mx.c.example",), "rsa": ("mx.a.example",)}


def trace(chance: random.Random) -> bool:
    """A trace is good only where the envelope says what the sealed one says."""
    name = chance.choice(list(_WAYS))
    sealed = recorded().one("sealed", name)
    octets = sealed if chance.random() < 0.03 else _changed_trace(sealed, chance)
    message = SealedMessage(octets, None, ObjectCounter(HEADERS).digest(), ObjectCounter(BODY).digest())
    around = Circumstances(NOW + 10, NOW + 10, _WAYS[name], ("mx.d.example",))
    report = verify_trace(message, _paths(), around)
    for finding in report.findings:
        assert finding.text.isprintable(), finding
    if not report.is_good:
        return False
    assert _content(read_envelope(octets)) == _content(read_envelope(sealed))
    return True


def _content(envelope: LayeredEnvelope) -> LayeredEnvelope:
    """All but what nobody needs to sign: the signatures themselves, and the order of certificates."""
    certificates = tuple(sorted(envelope.certificates))
    return replace(envelope, certificates=certificates, seals=tuple(map(_signed_part, envelope.seals)))


def _changed_trace(sealed: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return damage.xml(sealed, recorded().all("sealed") + recorded().all("envelopes"), chance)
    found = read_envelope(sealed)
    seals, certificates = list(found.seals), list(found.certificates)
    at = chance.randrange(len(seals))
    others = [one for octets in recorded().all("sealed") for one in read_envelope(octets).seals]
    match chance.randrange(7):
        case 0:
            seals[at] = changed_jws(seals[at], chance)
        case 1:
            seals[at] = _resigned(seals[at], SEAL_TYP, chance)
        case 2:
            del seals[at:]
        case 3:
            seals[at:at] = [chance.choice(others)] * chance.choice((1, 120))
        case 4:
            chance.shuffle(seals)
        case 5:
            certificates = chance.sample(certificates, chance.randrange(len(certificates) + 1))
        case _:
            which = chance.randrange(len(certificates))
            certificates[which] = damage.octets(certificates[which], certificates, chance) or b"0"
    try:
        return write_envelope(replace(found, seals=tuple(seals), certificates=tuple(certificates)))
    except (ObjectError, UnicodeEncodeError):
        return sealed.replace(
            found.seals[at].encode(), damage.octets(found.seals[at].encode(), [b"."], chance)
        )


# -- proofs ----------------------------------------------------------------------------------------------


def proof(chance: random.Random) -> bool:
    """A proof is one over our nonce and binding, by the key of the certificate that it came with."""
    terms = chance.choice((CLIENT, CLIENT, SERVER))
    data = chance.choice(recorded().all("proofs"))
    is_forged, draw = True, chance.random()
    if draw < 0.05:
        pass
    elif draw < 0.4:
        data = damage.octets(data, recorded().all("proofs"), chance)
    elif draw < 0.7:
        data = _with_proof(data, changed_jws(chance.choice(_texts()), chance))
    elif draw < 0.8:
        data = _with_proof(data, chance.choice(_texts()))
    else:
        is_forged = False
        text = recorded().one("proofs", "client").decode().split("\n")[-2]
        data = _with_proof(recorded().one("proofs", "client"), _resigned(text, PROOF_TYP, chance))
    try:
        found = check_proof(data, terms.role, terms.nonce, BINDING, (terms.server,))
    except ProofError as error:
        return refused(error)
    text = data.decode().rstrip("\r\n").rpartition("\n")[2]
    if is_forged:
        assert found.chain[0] in _known_leaves()
        assert _signed_part(text) in set(map(_signed_part, _texts()))
        assert (found.client, found.server) == (terms.client, terms.server)
    _check_claims(found.client, text, terms)
    return True


def _with_proof(data: bytes, text: str) -> bytes:
    pem = data[: data.rindex(b"-----END CERTIFICATE-----\n") + 26]
    return pem + text.encode("utf-8", "surrogatepass") + b"\n"


@cache
def _known_leaves() -> frozenset[bytes]:
    leaves = (x509.load_pem_x509_certificates(data)[0] for data in recorded().all("proofs"))
    return frozenset(one.public_bytes(Encoding.DER) for one in leaves)


def _check_claims(client: str, text: str, terms: ProofTerms) -> None:
    claims = json.loads(decode(text.split(".")[1]))
    assert claims == {
        "binding": encode(BINDING), "client": client, "nonce": terms.nonce, "role": terms.role,
        "server": terms.server,
    }  # fmt: skip


# -- encrypted headers -----------------------------------------------------------------------------------


def encrypted(chance: random.Random) -> bool:
    """Whoever can read them reads what was encrypted, nothing else."""
    given = chance.choice(recorded().all("encrypted"))
    draw = chance.random()
    if draw > 0.7:
        given = damage.octets(given, recorded().all("encrypted"), chance)
    elif draw > 0.03:
        given = damage.json_text(_other_jwe(given, chance), chance)
    try:
        seen = look_at(given)
    except EncryptionError as error:
        refused(error)
        seen = None
    kinds = ("ec", "rsa") if chance.random() < 0.02 else ("ec",)  # an RSA key is checked whenever it is read
    plain = [one for one in (_opened(given, kind) for kind in kinds) if one is not None]
    assert all(one == SECRET for one in plain)
    assert seen is not None or not plain
    return bool(plain)


def _opened(given: bytes, kind: str) -> bytes | None:
    try:
        return decrypt_headers(
            given, recorded().one("readers", kind), recorded().one("readers", f"{kind}-key")
        )
    except EncryptionError as error:
        refused(error)
        return None


def _other_jwe(given: bytes, chance: random.Random) -> object:
    tree = damage.json_tree(given)
    assert isinstance(tree, damage.Members)
    if chance.random() < 0.5:
        return damage.changed_tree(tree, chance)
    members = dict(tree)
    other = dict(_members(damage.json_tree(chance.choice(recorded().all("encrypted")))))
    name = chance.choice(list(members))
    members[name] = _spoilt(members[name], chance) if chance.random() < 0.6 else other[name]
    return damage.Members(members.items())


def _members(tree: object) -> Sequence[tuple[str, object]]:
    assert isinstance(tree, damage.Members)
    return tree


def _spoilt(value: object, chance: random.Random) -> object:
    """Still base64url of the same length, somewhere in the value: other octets, points on no curve."""
    if isinstance(value, damage.Members):
        at = chance.randrange(len(value))
        return damage.Members(
            (name, _spoilt(one, chance) if number == at else one) for number, (name, one) in enumerate(value)
        )
    if isinstance(value, list) and value:
        at = chance.randrange(len(value))
        return [*value[:at], _spoilt(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and len(value) > 12:
        try:
            octets = bytearray(decode(value))
        except JwsError:
            return value
        for _ in range(chance.choice((1, 1, 40))):
            octets[chance.randrange(len(octets))] = chance.choice((0, 255, chance.randrange(256)))
        return encode(bytes(octets))
    return chance.choice(("P-256", "P-384", "P-521", "ECDH-ES+A256KW", "RSA-OAEP-256", "EC", "OKP", value))


TARGETS = (
    Target("seal", seal, short=500, long=150_000),
    Target("trace", trace, short=150, long=100_000),
    Target("proof", proof, short=400, long=100_000),
    Target("encrypted", encrypted, short=250, long=100_000),
)
