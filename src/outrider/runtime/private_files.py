"""Files that only their owner may read: keys, passwords."""

import os
import pwd
import secrets
import stat
from pathlib import Path

from outrider.delivery.durable_folders import sync_folder


def write_private(path: Path, content: bytes) -> None:
    """Write `content` to `path` with mode 0600, whole or not at all, replacing what was there.

    At no moment can others read any of it, nor does a crash leave half a file. Raises OSError.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # O_EXCL: neither an existing file nor a link that somebody laid there is written through.
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def readable_by(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether an account other than ours may read a file, by owner, groups and mode, folders included.

    What access lists or labels add to that is not looked at. Raises OSError when there is no such file.
    """
    groups = set(os.getgrouplist(account.pw_name, account.pw_gid))

    def may(one: Path, for_user: int, for_group: int, for_others: int) -> bool:
        found = one.stat()
        wanted = for_others
        if found.st_uid == account.pw_uid:
            wanted = for_user
        elif found.st_gid in groups:
            wanted = for_group
        return bool(found.st_mode & wanted)

    if account.pw_uid == 0:
        return True
    real = path.resolve(strict=True)
    return may(real, stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH) and all(
        may(folder, stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH) for folder in real.parents
    )
