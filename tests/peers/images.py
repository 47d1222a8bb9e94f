"""Root directories for the peer servers, unpacked from the packages of the distribution.

Mail servers conflict with each other as packages and would start as services of the machine. So none is
installed: the package and the libraries it needs are downloaded and unpacked into `var/peers/images/<name>`,
maintainer scripts are not run, and a server is started by `chroot` in a copy (of hard links) of that folder.
Nothing outside the checkout is touched; removing `var/peers` undoes everything.

`python -m tests.peers.images` builds all of them (`make setup-tests`); a test that needs one which is missing
builds it on the way.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
STORE = PROJECT / "var" / "peers"

# Raised when the layout made by `_unpack` changes, so that older images are built anew.
LAYOUT = 2

# Documentation, translations and character set tables: the greater part of the files, never read by a test.
PRUNED = (
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/share/info",
    "./usr/share/lintian",
    "./usr/share/bug",
    "./usr/lib/*/gconv",
    "./usr/lib/*/perl/cross-config*",
)


class PeerSetupError(RuntimeError):
    """The machine cannot provide a peer; the text says what is missing and what would help."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of: packages, with the libraries they depend on added by themselves.

    `without` names libraries that are declared but not needed for what the tests do (they are large).
    """

    packages: tuple[str, ...]
    without: frozenset[str] = frozenset()

    def digest(self) -> str:
        """Identify the recipe, so that a changed one leads to a new image."""
        text = json.dumps([LAYOUT, PRUNED, self.packages, sorted(self.without)])
        return hashlib.sha256(text.encode()).hexdigest()


# dash: servers start their helpers with /bin/sh. netbase: /etc/services and /etc/protocols.
BASE = ("dash", "coreutils", "netbase")
RECIPES = {
    "postfix": Recipe((*BASE, "postfix", "sasl2-bin", "libsasl2-modules")),
    "exim": Recipe((*BASE, "exim4-base", "exim4-daemon-light")),
    "opensmtpd": Recipe((*BASE, "opensmtpd")),
    "sendmail": Recipe((*BASE, "m4", "sendmail-base", "sendmail-bin", "sendmail-cf")),
    "dovecot": Recipe((*BASE, "dovecot-core", "dovecot-lmtpd", "dovecot-imapd")),
    # LLVM serves only just-in-time compilation of queries.
    "postgresql": Recipe(
        (*BASE, "postgresql-15", "postgresql-client-15", "tzdata"), without=frozenset({"libllvm14"})
    ),
    # Not a server but odd mail: the messages that CPython's e-mail package is tested with.
    "python-testsuite": Recipe(("libpython3.11-testsuite",)),
    "bind": Recipe((*BASE, "bind9", "bind9-libs", "bind9-utils")),
    "openldap": Recipe((*BASE, "slapd")),
    # A browser without windows: AMDP's pages are looked at with it. It draws by itself, so no GL drivers.
    "chromium": Recipe(
        (*BASE, "chromium-headless-shell", "chromium-common", "fonts-dejavu-core", "fontconfig-config"),
        without=frozenset({"libllvm14", "libgl1-mesa-dri", "libllvm15"}),
    ),
    # A news server: what MT2's bulk is held against.
    "inn": Recipe((*BASE, "inn2", "inn2-inews"), without=frozenset({"libnet-perl"})),
    "swaks": Recipe(
        (
            *BASE,
            "perl",
            "perl-base",
            "perl-modules-5.36",
            "swaks",
            "libnet-ssleay-perl",
            "libauthen-sasl-perl",
        )
    ),
}


def image(name: str) -> Path:
    """Return the root directory of the image `name`, building it if it is missing or of an older recipe."""
    recipe = RECIPES[name]
    target = STORE / "images" / name
    if _is_built(target, recipe):
        return target
    with locked(STORE / "images" / f"{name}.lock"):
        if not _is_built(target, recipe):
            _build(target, recipe)
    return target


def _is_built(target: Path, recipe: Recipe) -> bool:
    try:
        stamp = json.loads((target / ".image.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(stamp.get("recipe") == recipe.digest())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time build an image; the others wait and find it done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(target: Path, recipe: Recipe) -> None:
    require_root("unpacking a peer's packages")
    if shutil.which("apt-get") is None:
        raise PeerSetupError("the peer servers come from Debian packages, but apt-get is not on this machine")
    scratch = target.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    archives = scratch / ".archives"
    archives.mkdir(parents=True)
    _download(archives, recipe)
    versions = _unpack(scratch, sorted(archives.glob("*.deb")))
    shutil.rmtree(archives)
    (scratch / ".image.json").write_text(
        json.dumps({"recipe": recipe.digest(), "packages": versions}, indent=1) + "\n"
    )
    shutil.rmtree(target, ignore_errors=True)
    scratch.rename(target)


def require_root(purpose: str) -> None:
    """Raise PeerSetupError unless this process is root (chroot, device nodes and mail users need it)."""
    if os.geteuid() != 0:
        raise PeerSetupError(f"{purpose} needs root; `make test` takes it by sudo")


def _download(archives: Path, recipe: Recipe) -> None:
    """Fetch the packages; if some are not found, bring the package lists up to date and try again."""
    try:
        _download_closure(archives, recipe)
    except PeerSetupError:
        with locked(STORE / "apt.lock"):
            _run(["apt-get", "-q", "update"], cwd=STORE)
        _download_closure(archives, recipe)


def _download_closure(archives: Path, recipe: Recipe) -> None:
    names = _with_libraries(recipe)
    # The sandbox user of apt may not write below the checkout; these are ordinary signed downloads.
    _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *sorted(names)], cwd=archives)


def _with_libraries(recipe: Recipe) -> set[str]:
    """Close a set of packages over the libraries they depend on (names with the prefix `lib`)."""
    wanted: set[str] = set()
    new = set(recipe.packages)
    while new:
        wanted |= new
        needed = {name for name in _dependencies(new) if name.startswith(("lib", "zlib"))}
        new = needed - wanted - recipe.without
    return wanted


def _dependencies(names: Iterable[str]) -> set[str]:
    shown = _run(["apt-cache", "show", "--no-all-versions", *sorted(names)], cwd=STORE)
    lists = re.findall(r"^(?:Pre-)?Depends: (.*)$", shown, re.MULTILINE)
    # Of alternatives ("a | b") the first is Debian's default; versions and architectures do not matter here.
    return {re.split(r"[ :(|]", item.strip(), maxsplit=1)[0] for line in lists for item in line.split(",")}


def _unpack(root: Path, archives: list[Path]) -> dict[str, str]:
    _merge_usr(root)
    excludes = [f"--exclude={pattern}" for pattern in PRUNED]
    versions = {}
    for archive in archives:
        name, version, _architecture = archive.stem.split("_")
        versions[name] = version.replace("%3a", ":")
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as reader:
            tar = ["tar", "-x", "-f", "-", "--keep-directory-symlink", "--wildcards", *excludes]
            done = subprocess.run(tar, stdin=reader.stdout, cwd=root, capture_output=True, text=True)
        if done.returncode or reader.returncode:
            raise PeerSetupError(f"could not unpack {archive.name}: {done.stderr.strip()}")
    return versions


def _merge_usr(root: Path) -> None:
    """Lay /bin, /sbin and /lib as links into /usr, as Debian does, whichever of them a package uses."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def _run(command: list[str], cwd: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-5:]
        raise PeerSetupError(f"{' '.join(command[:4])} ... failed: {' / '.join(reason)}")
    return done.stdout


def main(names: list[str]) -> int:
    """Build the named images, or all; print one line each."""
    try:
        for name in names or sorted(RECIPES):
            print(f"peer {name}: {image(name).relative_to(PROJECT)}", flush=True)
    except PeerSetupError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
