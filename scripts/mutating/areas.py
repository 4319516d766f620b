"""Areas: modules that belong together, each with the tests that have to notice when it is altered.

The tests of a module take seconds, for those that come by an altered place run once for each of its mutants; whatever
else might notice is not asked. The first that fails ends a trial, so the likeliest come first.
"""

from typing import Final

_RULES, _REVOCATIONS, _WORDS = "tests/test_policy.py", "tests/test_revocations.py", "tests/test_policy_words.py"
_IDENTITY, _SERVER, _SEQUENCER = "tests/identity", "tests/server", "securechat/server/sequencer"
_DELIVERY, _PUBLISHING, _REVOKING, _HEIRS, _SUCCEEDING, _IDS, _COMING = (
    f"{_SERVER}/sequencer/test_{name}.py"
    for name in ("delivery", "publishing", "revoking", "heirs", "succeeding", "device_ids", "coming_and_going")
)
_TOKENS = f"{_SERVER}/sequencer/test_resuming.py::test_a_token_ends_with_its_device_and_does_not_come_back_with_it"
_MEANWHILE = f"{_SERVER}/sequencer/test_changed_meanwhile.py"
_DROPPED = (
    f"{_COMING}::test_who_shares_a_conversation_with_a_device_that_is_dropped_is_told_and_nobody_else",
    f"{_COMING}::test_a_device_that_is_published_again_or_beside_another_is_no_news",
)
_ENTERING = (
    f"{_COMING}::test_a_device_that_entered_again_by_itself_keeps_its_place_in_the_log",
    f"{_COMING}::test_a_device_that_enters_again_while_it_reads_goes_on_reading",
    f"{_COMING}::test_what_was_checked_in_an_epoch_of_another_branch_is_refused",
    f"{_MEANWHILE}::test_nobody_is_added_whose_account_is_disabled",
    f"{_MEANWHILE}::test_a_commit_whose_group_has_gone_on_before_a_worker_could_rebuild_it_is_late_and_not_wrong",
    *(f"{_SERVER}/sequencer/test_{name}.py" for name in ("kept", "leases", "words", "checkpoints")),
    f"{_PUBLISHING}::test_nobody_is_added_by_a_key_package_of_an_old_certificate",
    f"{_PUBLISHING}::test_no_leaf_comes_under_a_certificate_that_nobody_has_published",
    f"{_PUBLISHING}::test_who_has_rotated_goes_on_under_the_old_leaf_until_it_is_renewed",
    f"{_SERVER}/sequencer/test_inboxes.py::test_one_sender_has_a_small_part_of_an_inbox",
    f"{_SERVER}/sequencer/test_inboxes.py::test_strangers_do_not_fill_an_inbox_by_bytes_either",
    f"{_SUCCEEDING}::test_until_the_rules_name_the_new_key_the_statement_waits",
    f"{_SUCCEEDING}::test_the_owner_of_an_open_room_comes_in_again_and_takes_over",
    f"{_SERVER}/sequencer/test_room_names.py::test_a_renamed_room_is_found_under_its_new_name_alone",
    f"{_SERVER}/sequencer/test_room_names.py::test_a_taken_name_is_refused_and_nothing_happens",
)
_TABLE = f"{_SERVER}/test_limits_table.py::test_every_other_limit_has_the_value_that_stands_there"
_NAMES = f"{_SERVER}/sequencer/test_room_names.py::test_a_name_is_free_ninety_days_after_the_newest_commit_of_an_owner"
_RESTORED = "tests/client/test_restored.py::test_whoever_comes_first_all_of_a_room_find_together_again"
_LOGIN = (
    *(f"{_SERVER}/sequencer/test_{name}.py" for name in ("login", "own_sessions")),
    f"{_SERVER}/sequencer/test_refusals.py::test_an_unknown_user_and_a_wrong_password_get_the_same_bytes",
    f"{_SERVER}/sequencer/test_refusals.py::test_while_logging_in",
    f"{_SERVER}/sequencer/test_coming_and_going.py::test_registration_is_as_the_operator_wants_it",
    f"{_SERVER}/sequencer/test_coming_and_going.py::test_a_seat_is_kept_for_a_lost_connection_and_not_after_a_goodbye",
    f"{_MEANWHILE}::test_what_is_checked_while_the_owner_deletes_the_account_leaves_nothing",
    f"{_SERVER}/sequencer/test_ephemerals.py",
    f"{_SERVER}/sequencer/test_blobs.py::test_what_one_has_uploaded_the_other_fetches",
    f"{_SERVER}/sequencer/test_blobs.py::test_the_rate_of_uploads_and_of_bytes_is_refused_with_a_time",
    f"{_SERVER}/test_blobs.py::test_who_asks_for_parts_and_takes_none_has_two_in_memory",
    f"{_SERVER}/sequencer/test_blobs.py::test_no_more_parts_at_once_than_the_window",
    f"{_SERVER}/sequencer/test_blobs.py::test_a_small_part_of_a_file_counts_like_one_of_sixteen_kib",
    f"{_SERVER}/test_sessions.py::test_one_portion_of_history_follows_the_other_where_nothing_else_happens",
    f"{_SERVER}/test_rates.py::test_registering_a_taken_name_is_a_guess_at_its_password",
    f"{_SERVER}/test_rates.py::test_a_login_with_a_former_secret_is_two_guesses",
    f"{_SERVER}/test_rates.py::test_a_name_that_nobody_has_is_guessed_at_the_same_rate",
)  # fmt: skip
_STORIES = (
    "tests/client/doors/test_pins.py", "tests/client/doors/test_checks.py::test_without_a_check_some_story_goes_wrong"
)
_ACCOUNTS = (
    f"{_SERVER}/test_accounts.py", f"{_SERVER}/test_admin.py::test_of_two_who_use_one_code_at_once_one_gets_in",
    f"{_SERVER}/test_admin.py::test_a_used_code_lets_its_registration_be_repeated_for_an_hour",
    f"{_SERVER}/test_admin.py::test_an_invite_ends_and_survives_a_restart_until_then", _TABLE, "-k",
    "not killed and not login_secret",
)  # fmt: skip

Area = dict[str, tuple[str, ...]]
"""From the path of a module to its tests, as pytest is given them."""

AREAS: Final[dict[str, Area]] = {
    "policy": {
        "securechat/policy/commits.py": (_RULES, _REVOCATIONS, _WORDS),
        "securechat/policy/departures.py": (_RULES,),
        "securechat/policy/judges.py": (_RULES, _REVOCATIONS, _WORDS),
        "securechat/policy/revocations.py": (_REVOCATIONS,),
        "securechat/policy/rules.py": (_RULES,),
        "securechat/policy/states.py": (_RULES,),
        "securechat/policy/successions.py": (_REVOCATIONS,),
        "securechat/policy/support.py": (_RULES, _WORDS),
        "securechat/policy/words.py": (_WORDS,),
    },
    "identity": {
        "securechat/identity/armour.py": (f"{_IDENTITY}/test_invite_line.py",),
        "securechat/identity/certificate.py": (f"{_IDENTITY}/test_certificate.py", f"{_IDENTITY}/test_statements.py"),
        "securechat/identity/chains.py": (f"{_IDENTITY}/test_chains.py",),
        "securechat/identity/invite_line.py": (f"{_IDENTITY}/test_invite_line.py",),
        "securechat/identity/line_proof.py": (f"{_IDENTITY}/test_invite_line.py",),
        "securechat/identity/safety_number.py": (f"{_IDENTITY}/test_safety_number.py",),
        "securechat/identity/statements.py": (f"{_IDENTITY}/test_statements.py", f"{_IDENTITY}/test_certificate.py"),
    },
    "pins": {"securechat/identity/pins.py": (f"{_IDENTITY}/test_pins.py", "tests/client/doors/test_pins.py")},
    "doors": {
        f"securechat/client/doors/{name}.py": ("tests/client/test_doors.py", *_STORIES)
        for name in ("checks", "facts", "table")
    },
    "key-files": {
        "securechat/client/wrapping.py": ("tests/client/test_wrapping.py", "tests/client/test_commitment.py"),
        "securechat/client/recovery_file.py": ("tests/client/test_recovery_file.py", "tests/client/test_wrapping.py"),
    },
    "content": {f"securechat/content/{name}.py": ("tests/test_content.py",) for name in ("envelope", "registry")},
    "wire": {
        f"securechat/wire/{name}.py": ("tests/wire", _TABLE) for name in ("limits", "frames", "chain", "possession")
    },
    "validation": {f"{_SEQUENCER}/validation.py": (_DELIVERY, _PUBLISHING, _NAMES, _RESTORED)},
    "membership": {
        f"{_SEQUENCER}/commits.py": (_DELIVERY, _HEIRS, _REVOKING, *_ENTERING),
        f"{_SEQUENCER}/heirs.py": (_HEIRS,),
        f"{_SEQUENCER}/publishing.py": (_PUBLISHING, _REVOKING, _SUCCEEDING, _IDS, *_DROPPED, _TOKENS),
        f"{_SEQUENCER}/revoking.py": (_REVOKING, _SUCCEEDING, f"{_SERVER}/sequencer/test_kept.py"),
    },
    "accounts": {
        f"securechat/server/accounts/{name}.py": _ACCOUNTS
        for name in ("file", "passwords", "records", "store")
    },
    "admission": {
        "securechat/server/admission/login.py": _LOGIN,
        "securechat/server/admission/newcomers.py": (f"{_SERVER}/test_admission.py", _TABLE),
        "securechat/server/rates.py": (f"{_SERVER}/test_admission.py", _TABLE),
    },
}
