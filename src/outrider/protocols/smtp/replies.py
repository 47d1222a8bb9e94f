"""The replies that a server session gives by itself: fixed, plain, each with its enhanced status."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from outrider.model.reply import Reply

# Positive
OK: Final = Reply(250, "2.0.0", "Ok")
GO_AHEAD: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
READY_FOR_TLS: Final = Reply(220, "2.0.0", "Ready to start TLS")
GOODBYE: Final = Reply(221, "2.0.0", "Goodbye")
CANNOT_VERIFY: Final = Reply(252, "2.0.0", "Cannot verify the user, but mail will be taken and tried")
HELP: Final = Reply(
    214,
    "2.0.0",
    "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS AUTH QUIT\n"
    "Write to postmaster about trouble with mail",
)

# Syntax
UNKNOWN_COMMAND: Final = Reply(500, "5.5.1", "Command not recognized")
LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Line too long")
BARE_LINE_FEED: Final = Reply(500, "5.5.2", "Lines must end with CR LF; closing")
ANSWER_TOO_LONG: Final = Reply(500, "5.5.6", "Authentication exchange line is too long")
NOT_TEXT: Final = Reply(501, "5.5.2", "Control characters and malformed UTF-8 are not allowed in commands")
NO_ARGUMENT_ALLOWED: Final = Reply(501, "5.5.4", "No argument allowed")
ARGUMENT_NEEDED: Final = Reply(501, "5.5.4", "Argument needed")
BAD_HELLO_NAME: Final = Reply(501, "5.5.4", "Argument must be a host name or an address literal")
MAIL_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address>")
RCPT_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: RCPT TO:<address>")
AUTH_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
NON_ASCII_ADDRESS: Final = Reply(553, "5.6.7", "Non-ASCII address needs the SMTPUTF8 parameter with MAIL")
BAD_SIZE: Final = Reply(501, "5.5.4", "SIZE must be a number of octets")
BAD_BODY: Final = Reply(501, "5.5.4", "BODY must be 7BIT, 8BITMIME or BINARYMIME")
BAD_RET: Final = Reply(501, "5.5.4", "RET must be FULL or HDRS")
BAD_ENVID: Final = Reply(501, "5.5.4", "ENVID must be xtext of at most 100 characters")
BAD_AUTH_PARAMETER: Final = Reply(501, "5.5.4", "AUTH must be xtext")
BAD_HOLD: Final = Reply(501, "5.5.4", "Malformed HOLDFOR or HOLDUNTIL")
HOLD_TWICE: Final = Reply(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
HOLD_TOO_LONG: Final = Reply(501, "5.5.4", "Release time is further away than this server allows")
NO_VALUE_ALLOWED: Final = Reply(501, "5.5.4", "SMTPUTF8 takes no value")
NO_AMDP_VALUE: Final = Reply(501, "5.5.4", "AMDP takes no value")
BAD_NOTIFY: Final = Reply(501, "5.5.4", "NOTIFY must be NEVER, or some of SUCCESS, FAILURE and DELAY")
BAD_ORCPT: Final = Reply(501, "5.5.4", "ORCPT must be type;address, in xtext of at most 500 characters")
PARAMETER_TWICE: Final = Reply(501, "5.5.4", "Parameter given twice")
UNKNOWN_PARAMETER: Final = Reply(555, "5.5.4", "Parameter not recognized or not implemented")
PARAMETERS_NEED_EHLO: Final = Reply(555, "5.5.4", "Parameters need EHLO")
BAD_CHUNK: Final = Reply(501, "5.5.4", "Syntax: BDAT size [LAST]; closing, as the chunk has no known end")

# Order
BAD_SEQUENCE: Final = Reply(503, "5.5.1", "Bad sequence of commands")
HELLO_FIRST: Final = Reply(503, "5.5.1", "Say hello first")
NESTED_MAIL: Final = Reply(503, "5.5.1", "A transaction is under way already")
MAIL_FIRST: Final = Reply(503, "5.5.1", "MAIL first")
RCPT_FIRST: Final = Reply(503, "5.5.1", "RCPT first")
NO_VALID_RECIPIENTS: Final = Reply(554, "5.5.1", "No valid recipients")
NO_VALID_RECIPIENTS_LMTP: Final = Reply(503, "5.5.1", "No valid recipients")  # RFC 2033 4.2 wants 503
BINARY_NEEDS_BDAT: Final = Reply(503, "5.5.1", "BODY=BINARYMIME needs BDAT")
TURNED_AWAY: Final = Reply(503, "5.5.1", "No mail service for you here; only QUIT")
NOT_IMPLEMENTED: Final = Reply(502, "5.5.1", "Command not implemented")
NO_LISTS: Final = Reply(502, "5.7.2", "Lists are not expanded")
TLS_NOT_AVAILABLE: Final = Reply(502, "5.5.1", "TLS not available")
TLS_ACTIVE: Final = Reply(503, "5.5.1", "TLS is active already")
TLS_AFTER_AUTH: Final = Reply(503, "5.5.1", "STARTTLS must come before AUTH")
AUTH_NOT_AVAILABLE: Final = Reply(502, "5.5.1", "AUTH not available")
AUTH_NEEDS_TLS: Final = Reply(538, "5.7.11", "Encryption required for authentication")
AUTHENTICATED_ALREADY: Final = Reply(503, "5.5.1", "Already authenticated")
OUT_OF_STEP: Final = Reply(554, "5.5.0", "Out of step: this must wait for the reply; closing")
NOT_A_WEB_SERVER: Final = Reply(554, "5.5.1", "This is a mail server; closing")

# Limits
MESSAGE_TOO_BIG: Final = Reply(552, "5.3.4", "Message too big")
HEADER_TOO_BIG: Final = Reply(552, "5.3.4", "Header section too big")
STRAY_OCTETS: Final = Reply(550, "5.6.0", "Bare CR, bare LF or NUL in the message")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients")
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors; closing")
TOO_MANY_COMMANDS: Final = Reply(421, "4.7.0", "Too many commands without mail; closing")
TOO_MANY_MESSAGES: Final = Reply(421, "4.7.0", "Enough messages for one connection; closing")
TIMED_OUT: Final = Reply(421, "4.4.2", "Time-out; closing")
SESSION_TOO_LONG: Final = Reply(421, "4.4.2", "Session took too long; closing")
SHUTTING_DOWN: Final = Reply(421, "4.3.2", "Service is shutting down; closing")
INTERNAL_ERROR: Final = Reply(421, "4.3.0", "Internal error; closing")


@lru_cache(maxsize=1024)
def encode(reply: Reply, utf8: bool = False) -> bytes:
    """`Reply.encode`, remembered: most replies of a busy server are the same few."""
    return reply.encode(utf8=utf8)
