"""Write docs/lifetimes.md: everything in the system that ends or is due after an hour or longer, and what happens then.

    .venv/bin/python scripts/lifetimes.py

How long comes from the constants. A test looks for constants that are missing here, and for tests that are not there.
"""

import datetime as dt
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "lifetimes.md"

HEAD = """# Lifetimes

Everything in the system that ends, or is due, after an hour or longer; `scripts/lifetimes.py` makes this page from the
constants. A test checks that it is current, that no such constant is missing, and that each test named here is there.
Times are moved by the tests' own clocks, up to two years, for a client that never restarts (`without_a_break`,
`a_year_with_a_password_file`) and for one that is seldom there (`once_a_fortnight`, `a_year_in_a_room`).

Without an end: identity keys, pins and chains; device ids; the vault's history, where the rules of a conversation give
it none (`/life`); keepsakes and recovery files; accounts.
"""


class Row(NamedTuple):
    """One constant; `module` below `securechat`; `tests`: files below `tests`, each with a part of a test's name."""

    module: str
    name: str
    what: str
    end: str
    tests: tuple[str, ...]


class Section(NamedTuple):
    """A table of the page."""

    title: str
    rows: tuple[Row, ...]


TABLES = (
    Section(
        "Keys, certificates, logins",
        (
            Row(
                "client.device",
                "CERTIFICATE_SECONDS",
                "a device's certificate, its signature key and key packages",
                "its owner reads, and what they say waits for a new key; nobody can open a chat with them, and who "
                "tries is told that they are away",
                (
                    "client/test_rotation.py: whoever_starts_from_day_30",
                    "client/test_rotation.py: without_a_break",
                    "client/test_rotation.py: a_year_with_a_password_file",
                    "client/test_rotation.py: a_year_in_a_room",
                    "client/test_stock.py: away_longer_than_their_keys",
                    "client/test_stock.py: for_two_years_is_in_stock",
                ),
            ),
            Row(
                "client.rotation",
                "DUE_SECONDS",
                "before that end a new key is made, where the password is at hand",
                "the key is renewed in silence",
                ("client/test_rotation.py: whoever_starts_from_day_30",),
            ),
            Row(
                "client.rotation",
                "ASKED_SECONDS",
                "before that end the user is asked for the password",
                "asked once a day",
                ("client/test_rotation.py: without_a_break",),
            ),
            Row(
                "identity.certificate",
                "MAX_LIFETIME",
                "the longest life that anybody accepts of a certificate or key package",
                "refused",
                ("identity/test_certificate.py: a_greatest_lifetime",),
            ),
            Row(
                "identity.certificate",
                "CLOCK_SKEW",
                "by which clocks may differ",
                "what is dated further ahead is refused, and nothing is signed by such a clock",
                ("identity/test_certificate.py: room_for_wrong_clocks", "client/test_stock.py: by_our_clock_alone"),
            ),
            Row(
                "client.conversations.old_keys",
                "PACKAGES_SECONDS",
                "of being connected with a new key, in which Welcomes for key packages of the old one are read",
                "their private sides go",
                ("client/test_stock.py: for_an_hour_of_being_connected",),
            ),
            Row(
                "client.conversations.old_keys",
                "KEPT_SECONDS",
                "of being connected, for which an old signature key is kept",
                "it goes, and our own external commit replaces a leaf that still names it",
                ("client/test_rotation.py: keeps_an_old_key_for_a_week",),
            ),
            Row(
                "client.conversations.stock",
                "SPENT_SECONDS",
                "in which three Welcomes for last-resort key packages, each of a new stock, are told",
                "counted anew",
                ("client/test_stock.py: never_handed_out_in_full", "client/test_stock.py: over_days"),
            ),
            Row(
                "client.conversations.stock",
                "REPLACED_SECONDS",
                "for which a stock is not replaced once more because of what the server says of it",
                "replaced anew where it is still wrong",
                ("client/test_stock.py: stays_foreign", "client/test_stock.py: replaced_once_a_day"),
            ),
            Row(
                "client.conversations.unopened",
                "DAY_SECONDS",
                "in which a few Welcomes that nothing opens are told one by one",
                "how many more there were is told, and they are counted anew",
                ("client/test_stock.py: of_a_flood_of_welcomes",),
            ),
            Row(
                "server.sequencer.tokens",
                "TOKEN_SECONDS",
                "a resume token, since it was made or extended",
                "the next connection takes the password",
                (
                    "server/sequencer/test_resuming.py: expires_and_is_swept",
                    "server/sequencer/test_resuming.py: is_extended_in_time",
                    "client/test_stock.py: once_a_fortnight",
                    "client/test_stock.py: for_two_years_is_in_stock",
                ),
            ),
            Row(
                "client.link.login",
                "TOKEN_SECONDS",
                "before its end a client has its token extended",
                "extended, unless the certificate has expired",
                ("client/test_stock.py: half_of_its_life",),
            ),
            Row(
                "identity.statements",
                "MAX_SUCCESSION_AGE",
                "that a succession may have been signed before it is published",
                "refused: it is signed anew",
                ("server/sequencer/test_succeeding.py: dated_back",),
            ),
            Row(
                "identity.statements",
                "CONTEST_SECONDS",
                "in which the old key can contest a succession",
                "refused: the new key stands",
                ("server/sequencer/test_succeeding.py: after_a_month", "client/test_contesting.py: after_a_month"),
            ),
            Row(
                "identity.statements",
                "CONTESTED_SECONDS",
                "for which clients ask whether a succession was contested",
                "not asked any more",
                ("client/test_chains.py: contests_in_time",),
            ),
            Row(
                "server.accounts.store",
                "USED_SECONDS",
                "for which a used code lets its account repeat the registration",
                "the code is worthless",
                ("server/test_admin.py: for_an_hour",),
            ),
            Row(
                "server.operator.admin",
                "MAX_DAYS",
                "the longest life of a code to register by, or for a new password",
                "the code is worthless",
                ("server/test_admin.py: an_invite_ends", "server/test_admin.py: no_code_lives"),
            ),
            Row(
                "certs",
                "DEFAULT_DAYS",
                "the server's TLS certificate",
                "clients refuse it, and health checks fail; `gen-certs` renews it, SIGHUP takes it over",
                (
                    "test_certs.py: lives_90_days",
                    "test_certs.py: refuses_an_expired",
                    "server/test_metrics.py: is_not_ready",
                ),
            ),
            Row("certs", "MAX_DAYS", "the longest that one may ask for", "refused", ("test_certs.py: out_of_range",)),
            Row(
                "certs",
                "CLOCK_SKEW",
                "before its making from which it is valid",
                "-",
                ("test_certs.py: lives_90_days",),
            ),
            Row(
                "certs",
                "CA_LIFE",
                "the private CA",
                "refused by name; `--new-ca` makes another one",
                (
                    "test_certs.py: a_ca_ten_years",
                    "test_certs.py: an_expired_ca",
                    "server/test_doctor.py: a_ca_that_has_expired",
                ),
            ),
            Row(
                "transport.mutual",
                "LIFE",
                "the certificate of the day, for one direct link",
                "refused, before a connection and by TLS",
                (
                    "client/test_direct_link.py: out_of_date",
                    "client/test_direct_link.py: has_expired_since",
                    "client/test_direct_link.py: more_than_a_day",
                ),
            ),
            Row(
                "transport.mutual",
                "CLOCK_SKEW",
                "before its making from which it is valid",
                "-",
                ("client/test_direct_link.py: more_than_a_day",),
            ),
            Row(
                "server.operator.doctor",
                "RENEW_DAYS",
                "before its end the doctor asks for a new certificate",
                "told",
                ("server/test_doctor.py: the_certificates_dates",),
            ),
        ),
    ),
    Section(
        "What waits, and what is kept",
        (
            Row(
                "client.conversations.governing",
                "MIN_LIFE",
                "the shortest life that the rules can give to what is said",
                "it is deleted from each history as soon as its program is connected, or within an hour; the server "
                "keeps what somebody has not read for as long as ever",
                ("client/test_life.py: looks_each_hour",),
            ),
            Row(
                "client.conversations.governing",
                "MAX_LIFE",
                "the longest",
                "more is refused where it is typed",
                ("client/test_life.py: a_life_that_nobody_can_keep_to",),
            ),
            Row(
                "content.registry",
                "INVITATION_DAYS",
                "an invitation to a room",
                "told that it has ended; ask again",
                ("client/test_invitations.py: ends_after_fourteen_days",),
            ),
            Row(
                "client.conversations.bounds",
                "WAIT_MILLISECONDS",
                "a Welcome that waits for its invitation",
                "it is dropped",
                ("client/test_invitations.py: ends_after_fourteen_days",),
            ),
            Row(
                "identity.invite_line",
                "MAX_DAYS",
                "an invite line",
                "whoever uses it makes an ordinary request",
                ("client/test_lines.py: bounded_in_number_and_days",),
            ),
            Row(
                "server.store.records",
                "READER_SECONDS",
                "for which an absent reader holds entries, and its inbox Welcomes",
                "a gap, which is shown; in a private chat `reader-full`, and what is said waits with the sender",
                (
                    "server/store/test_contract.py: nobody_absent_keeps_old_entries",
                    "server/store/test_contract.py: an_inbox_that_nobody_reads",
                    "faults/test_absence.py: too_late",
                    "client/test_stock.py: however_late_its_reader_is_back",
                ),
            ),
            Row(
                "server.store.records",
                "ACKNOWLEDGED_SECONDS",
                "for which handshakes stay that all have acknowledged",
                "deleted: no copy of a vault can have made one since",
                ("server/store/test_contract.py: while_a_copy_of_a_vault_can_act",),
            ),
            Row(
                "server.store.records",
                "KEPT_SECONDS",
                "for which handshakes stay for the slowest device, and what a private chat's reader has not read",
                "a checkpoint leads back, or an invitation; a gap is shown, and the other one can write again",
                (
                    "server/store/test_contract.py: past_half_a_year",
                    "server/store/test_contract.py: lost_device_never_reads",
                    "server/sequencer/test_retention.py: lost_device_ends_neither",
                ),
            ),
            Row(
                "server.store.records",
                "BRANCH_SECONDS",
                "after a restore, in which another branch can be handed back",
                "the branch that goes on stands",
                ("server/store/test_contract.py: for_a_month_after_a_restore",),
            ),
            Row(
                "client.vault.conversations",
                "KEPT_MILLISECONDS",
                "for which a client keeps handshakes to hand them back",
                "deleted",
                ("client/test_following.py: kept_for_a_month",),
            ),
            Row(
                "client.doors.checks",
                "GONE_SECONDS",
                "after which a checkpoint leads on from a state whose handshakes are gone",
                "younger ones wait for them",
                ("client/test_following.py: after_thirty_days",),
            ),
            Row(
                "server.sequencer.room_names",
                "NAME_MILLISECONDS",
                "a room's name without a commit of an owner",
                "free for whoever takes it",
                ("server/sequencer/test_room_names.py: ninety_days",),
            ),
            Row(
                "server.clock",
                "MAX_LEAP",
                "by which the server's clock may leap",
                "nothing is added and nothing expires until it is right, or the operator says so",
                (
                    "server/sequencer/test_time.py: while_the_clock_has_leapt",
                    "server/sequencer/test_time.py: less_than_a_day",
                ),
            ),
        ),
    ),
    Section(
        "What is due again",
        (
            Row(
                "client.parts",
                "PATH_MILLISECONDS",
                "an owner commits, a speaker before they say more",
                "a fresh path",
                ("client/test_freshness.py: commits_weekly", "client/test_engine.py: after_a_week"),
            ),
            Row(
                "client.conversations.freshness",
                "MARK_MILLISECONDS",
                "a room that no owner has signed",
                "marked",
                ("client/test_freshness.py: two_weeks",),
            ),
            Row(
                "client.conversations.roster",
                "LONG_MILLISECONDS",
                "an absence",
                "what was typed before waits for one Enter",
                ("client/test_freshness.py: through_a_long_absence",),
            ),
            Row(
                "client.conversations.conversation",
                "_NOTED_MILLISECONDS",
                "of being there in silence",
                "written down",
                ("client/test_freshness.py: in_silence_is_no_absence",),
            ),
            Row(
                "client.context",
                "DAY_MILLISECONDS",
                "a no to somebody who asks again",
                "what they ask is heard; what came meanwhile stands in the list",
                ("client/test_blocking.py: asks_again_within_a_day",),
            ),
            Row(
                "client.conversations.welcomes",
                "REPEATED_MILLISECONDS",
                "Welcomes into a room that we are in",
                "told once more",
                ("client/test_invitations.py: told_once_a_day",),
            ),
            Row(
                "client.rotation",
                "LOOK_SECONDS",
                "key, token, stock and successions are looked at",
                "renewed where due",
                ("client/test_rotation.py: a_year_with_a_password_file", "client/test_stock.py: within_the_hour"),
            ),
            Row(
                "client.conversations.entering",
                "AWAY_SECONDS",
                "it is tried whether somebody away is back",
                "what waits goes out",
                ("client/test_stock.py: away_longer_than_their_keys",),
            ),
            Row(
                "client.conversations.outbox",
                "_LOOK_SECONDS",
                "it is looked at how fresh a room is",
                "see above",
                ("client/test_freshness.py: commits_weekly",),
            ),
            Row(
                "client.conversations.patience",
                "LONGEST_WAIT",
                "an open room is entered again past a bad commit",
                "tried again",
                ("client/test_evidence.py: double_to_an_hour",),
            ),
            Row(
                "client.conversations.patience",
                "_CALM_SECONDS",
                "without a bad commit",
                "the waits begin anew",
                ("client/test_evidence.py: double_to_an_hour",),
            ),
            Row(
                "server.store.sqlite.tidying",
                "EXPIRY_SECONDS",
                "what has expired is swept",
                "deleted",
                ("server/sequencer/test_resuming.py: expires_and_is_swept",),
            ),
            Row(
                "server.store.sqlite.tidying",
                "HANDSHAKES_EXPIRY_SECONDS",
                "handshakes that have had their time are swept",
                "deleted",
                ("server/store/test_contract.py: past_half_a_year",),
            ),
            Row(
                "client.files.saving",
                "AWAITED_MILLISECONDS",
                "somebody who saves a file asks for one that was said before the server had it",
                "given up, and said so; it is to be sent again",
                ("client/files/test_linked.py: nobody_has_us_ask_for_ever",),
            ),
            Row(
                "server.sequencer.blobs",
                "UNFINISHED_SECONDS",
                "for which an upload waits for its client to go on",
                "deleted; the client begins anew",
                ("server/sequencer/test_blobs.py: not_finished_are_bounded_and_expire",),
            ),
            Row(
                "server.blobs.sweep",
                "WALK_SECONDS",
                "all files of blobs are compared with the store",
                "what belongs to no blob is deleted, and a blob that lacks its bytes is dropped",
                ("server/sequencer/test_blobs.py: newer_or_older_than_the_store",),
            ),
        ),
    ),
)

UNITS = frozenset(
    (
        ("client.conversations.lines", "DAY_MILLISECONDS"),
        ("client.rotation", "_DAY"),
        ("client.device", "_CLOCK_SKEW"),
        ("server.sequencer.budgets", "_HOUR"),
        ("server.sequencer.budgets", "_DAY"),
    )
)
"""Constants that name a unit, or another constant, and the lifetime of nothing."""


def seconds(module: str, name: str) -> float:
    """What a constant is in seconds, by the unit in its name."""
    value = getattr(import_module(f"securechat.{module}"), name)
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return float(value * (86_400 if name.endswith("DAYS") else 0.001 if "MILLISECONDS" in name else 1))


def build() -> str:
    """The text of the page as it has to be now."""
    return HEAD + "".join(map(_section, TABLES))


def _section(section: Section) -> str:
    lines = "".join(map(_line, section.rows))
    head = "| how long | what | at its end | constant | tests |\n|---|---|---|---|---|"
    return f"\n## {section.title}\n\n{head}\n{lines}"


def _line(row: Row) -> str:
    path = f"securechat/{row.module.replace('.', '/')}.py"
    length = _words(seconds(row.module, row.name))
    tests = "; ".join(f"`{test}`" for test in row.tests)
    return f"| {length} | {row.what} | {row.end} | [{row.name}](../{path}) | {tests} |\n"


def _words(length: float) -> str:
    count, unit = (length / 86_400, "day") if length >= 86_400 else (length / 3600, "hour")
    return f"{count:,.0f} {unit}{'' if round(count) == 1 else 's'}"


if __name__ == "__main__":
    PAGE.write_text(build())
