"""New databases, made at once as all the steps of their schema together would make them.

For the tests of one process, which make thousands of vaults and servers: a hundred statements, most of which alter what
the ones before have made, take 10 ms of processor for each. `test_newest` shows that what comes of it is the same; the
steps themselves are taken where they are the subject (`test_migrations`), and by every program that a test starts.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from securechat.client.vault import schema as vault_schema
from securechat.identity.site_key import new_private
from securechat.server.store.sqlite import schema as store_schema

OF_VAULT, OF_STORE = vault_schema.migrate, store_schema.migrate
"""What takes the steps."""


def make_new_ones_at_once() -> None:
    """Let this process's new vaults and servers be made so."""
    vault_schema.migrate = _at_once(vault_schema, OF_VAULT, lambda _: None)
    store_schema.migrate = _at_once(store_schema, OF_STORE, _new_site_key)


def _new_site_key(connection: Any) -> None:
    """The one thing that is another one in each database."""
    connection.execute("UPDATE meta SET value = ? WHERE key = 'site_key'", (new_private(),))


def _at_once(schema: Any, migrate: Callable[..., None], renew: Callable[[Any], None]) -> Callable[..., None]:
    """Return what makes new databases, and leaves all others, and those of a test with steps of its own, to `migrate`.

    `renew`: what is done in each of them.
    """
    steps, scripts = schema.MIGRATIONS, list[str]()

    def begin(connection: Any, *rest: Any) -> None:
        if schema.MIGRATIONS is not steps or schema.version_of(connection):
            migrate(connection, *rest)
            return
        if not scripts:
            with closing(type(connection)(":memory:", isolation_level=None)) as model:  # SQLite's, or SQLCipher's
                migrate(model, *rest)
                scripts.append(script_of(model))
        try:
            connection.executescript(f"BEGIN EXCLUSIVE;\n{scripts[0]}")
            renew(connection)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    return begin


def script_of(database: Any) -> str:
    """Return the statements that make a database like this one: what is defined in it, its rows, and its numbers."""
    defined = database.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY rowid"
    ).fetchall()
    sorts = dict(database.execute("SELECT name, type FROM pragma_table_list"))  # a virtual table makes its shadows
    tables = [sql for kind, name, sql in defined if kind == "table" and sorts[name] != "shadow"]
    rows = []
    for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall():
        if sorts[name] == "virtual":
            continue
        columns = [column for (column,) in database.execute("SELECT name FROM pragma_table_info(?)", (name,))]
        quoted = ", ".join(f'quote("{column}")' for column in columns)
        for row in database.execute(f"SELECT {quoted} FROM {name}"):  # noqa: S608  our own tables
            rows.append(f"REPLACE INTO {name} VALUES ({', '.join(row)})")  # noqa: S608, PERF401
    others = [sql for kind, _, sql in defined if kind != "table"]  # triggers come after the rows: none is to fire
    numbers = [f"PRAGMA {each} = {database.execute(f'PRAGMA {each}').fetchone()[0]}" for each in NUMBERS]
    return "".join(f"{statement};\n" for statement in (*tables, *rows, *others, *numbers))


NUMBERS = ("application_id", "user_version")
