"""The users file: read, written, and mistaken."""

from __future__ import annotations

import pytest
import scramp

from outrider.identity.credentials import (
    MAX_PASSWORD_OCTETS,
    User,
    UsersFileError,
    UserTable,
    format_user,
    make_user,
    normal_fingerprint,
    parse_users,
)
from outrider.model.address import parse_address

PRINT = "ab" * 32


@pytest.fixture(scope="module")
def ann() -> User:
    return make_user(
        "ann",
        "correct horse",
        salt=b"s" * 16,
        scram_salt=b"t" * 16,
        senders=("ann@a.example", "@Lists.a.example"),
        certificates=("hub.b.example", "SHA256:" + ":".join(["AB"] * 32)),
    )


@pytest.mark.covers("SMTP-2b")
def test_an_entry_is_written_and_read_back(ann: User) -> None:
    text = f"# users\n\n{format_user(ann)}\n"
    table = parse_users(text, "users")
    assert table.users == (ann,)
    assert "correct horse" not in text
    assert table.find("ANN") == ann
    assert table.find("bob") is None
    assert table.find_by_certificate(["hub.b.example"], []) == ann
    assert table.find_by_certificate([], [PRINT]) == ann
    assert table.find_by_certificate(["x.b.example"], ["00" * 32]) is None


@pytest.mark.covers("SMTP-2b")
def test_scram_keys_agree_with_an_independent_maker(ann: User) -> None:
    assert ann.scram is not None
    salt, stored, server, iterations = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(
        "correct horse", iteration_count=4096, salt=b"t" * 16
    )
    assert (ann.scram.salt, ann.scram.stored_key, ann.scram.server_key) == (salt, stored, server)
    assert ann.scram.iterations == iterations


@pytest.mark.covers("SMTP-2b", "SEC-107")
def test_passwords_are_checked_and_unknown_users_cost_a_hash_too(
    ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = UserTable((ann, User("bob")))
    assert table.check_password("Ann", "correct horse")
    assert not table.check_password("ann", "wrong")
    assert not table.check_password("bob", "")
    verified: list[str] = []
    import outrider.identity.credentials as module

    class Counting:
        def verify(self, stored: str, password: str) -> bool:
            verified.append(stored.rpartition("$")[0].rpartition("$")[0])
            raise module.InvalidHashError

    monkeypatch.setattr(module, "_HASHER", Counting())
    for name in ("ann", "nobody", "bob"):
        assert not table.check_password(name, "guess")
    assert len(verified) == 3
    assert len(set(verified)) == 1, "the decoy must cost what a real hash costs"


@pytest.mark.covers("SEC-110")
@pytest.mark.parametrize(
    ("senders", "address", "expected"),
    [
        (("ann@a.example",), "Ann@A.example", True),
        (("ann@a.example",), "ann+shop@a.example", True),
        (("ann@a.example",), "annx@a.example", False),
        (("ann@a.example",), "ann@b.example", False),
        (("@a.example",), "who@a.example", True),
        (("@a.example",), "who@sub.a.example", False),
        (("*",), "who@ever.example", True),
        ((), "ann@own.example", True),
        ((), "ann+x@own.example", True),
        ((), "bob@own.example", False),
        ((), "ann@foreign.example", False),
    ],
)
def test_sender_addresses_of_a_login(senders: tuple[str, ...], address: str, expected: bool) -> None:
    line = "ann certificates=x.example" + (f" senders={','.join(senders)}" if senders else "")
    user = parse_users(line).users[0]
    assert user.may_send_as(parse_address(address), ["own.example"]) is expected


def test_a_login_that_is_an_address_is_its_own_sender() -> None:
    user = parse_users("Ann@A.example certificates=x.example").users[0]
    assert user.may_send_as(parse_address("ann@a.example"))
    assert not user.may_send_as(parse_address("bob@a.example"), ["a.example"])


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("ann", "users:1: ann has no argon2="),
        ("\n\nann=x y", "users:3: the line must begin with a user name"),
        ("ann password=x", "unknown word 'password'"),
        ("ann argon2", "unknown word 'argon2'"),
        ("ann argon2=x", "not an argon2 hash"),
        ("ann argon2=$argon2i$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g", "must be argon2id"),
        ("ann argon2=$argon2id$v=19$m=99999999,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g", "costs more than"),
        ("ann scram=x", "must look like"),
        ("ann scram=SCRAM-SHA-256$1:YQ==$YQ==:YQ==", "1 iterations"),
        ("ann scram=SCRAM-SHA-256$99999999:YQ==$YQ==:YQ==", "iterations; allowed"),
        ("ann scram=SCRAM-SHA-256$4096:YQ$YQ==:YQ==", "malformed base64"),
        ("ann scram=SCRAM-SHA-256$4096:YQ==$YQ==:YQ==", "wrong length"),
        ("ann certificates=x.example senders=nobody", "write an address, @domain"),
        ("ann certificates=sha256:12", "64 hexadecimal digits"),
        ("ann certificates=a..b", "write a host name"),
        ("ann certificates=@b.example", "nothing before the @"),
        ("ann certificates=x.example certificates=y.example", "here twice"),
        ("ann certificates=x.example\nANN certificates=y.example", "users:2: ANN is here twice"),
        ("ann certificates=x.example\nbob certificates=X.example", "belongs to ann already"),
    ],
)
def test_mistakes_name_file_line_and_remedy(text: str, because: str) -> None:
    with pytest.raises(UsersFileError, match=f"{because}".replace("$", r"\$")):
        parse_users(text, "users")


@pytest.mark.covers("SEC-109")
def test_a_megabyte_of_password_is_refused_unhashed() -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        make_user("ann", "x" * (MAX_PASSWORD_OCTETS + 1), salt=b"s" * 16, scram_salt=b"t" * 16)
    with pytest.raises(ValueError, match="between 1 and"):
        make_user("ann", "", salt=b"s" * 16, scram_salt=b"t" * 16)


@pytest.mark.covers("SEC-211")
def test_secrets_do_not_show(ann: User) -> None:
    shown = repr(ann) + repr(UserTable((ann,)))
    assert "argon2id" not in shown
    assert ann.scram is not None
    assert repr(ann.scram.stored_key) not in shown


def test_fingerprints_in_any_form() -> None:
    assert normal_fingerprint("SHA256:" + ":".join(["AB"] * 32)) == PRINT
    assert normal_fingerprint(PRINT) == PRINT
