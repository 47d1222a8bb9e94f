"""Who may log in: the file of logins, and the memory of failed ones."""

from __future__ import annotations

from outrider.config.problems import Problem
from outrider.config.schema import Config
from outrider.identity.authenticator import SaslAuthenticator
from outrider.identity.credentials import UsersFileError, UserTable, parse_users
from outrider.identity.login_limits import LoginLimits
from outrider.runtime.findings import Findings


def login_limits(config: Config) -> LoginLimits:
    """The memory of failed logins; kept over a reload by the caller."""
    auth = config.auth
    return LoginLimits(
        per_address=auth.failures_per_address, per_user=auth.failures_per_user, window_s=auth.failure_window
    )


def read_users(findings: Findings) -> UserTable | None:
    """The logins; None without a file of them, and when it has faults."""
    auth = findings.config.auth
    if not auth.users_file:
        return None
    path = findings.loaded.resolve(auth.users_file)
    try:
        users = parse_users(path.read_text("utf-8"), str(path))
        SaslAuthenticator(
            users, login_limits(findings.config), make_nonce=str, secret=b"", mechanisms=auth.mechanisms
        )
    except UsersFileError as error:
        findings.problems.append(Problem(str(error).partition(": ")[0], 0, "", str(error).partition(": ")[2]))
    except OSError as error:
        remedy = "create it with `outrider user add`"
        findings.fault(("auth", "users_file"), f"{path}: {error.strerror}", remedy)
    except ValueError as error:
        findings.problems.append(findings.loaded.problem_from(str(error)))
    else:
        return users
    return None
