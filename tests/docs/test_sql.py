"""Every statement of SQL on the pages runs."""

import psycopg
import pytest
from tests.docs.pages import NAMES, Block, blocks

STATEMENTS = [each for page in NAMES for each in blocks(page) if each.language == "sql"]


@pytest.mark.parametrize("block", STATEMENTS, ids=[each.place for each in STATEMENTS])
def test_a_statement_runs(oban_dsn: str, block: Block) -> None:
    with psycopg.connect(oban_dsn, autocommit=True) as connection:
        connection.execute(block.code.encode())
