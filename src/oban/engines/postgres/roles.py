"""What a role needs to do its part and no more."""

from collections.abc import Mapping
from typing import Final

from oban.engines.postgres.schema import identifier, text

CHANGE: Final = "select, insert, update, delete"

CLAIM_LIMITED: Final = (
    "oban_claim_limited(text, text, text, integer, integer, bigint, float8, integer, integer, "
    "text, text[], jsonb, text)"
)

#: For each part, the privileges on tables; adding jobs also needs the sequence of their ids.
GRANTS: Final[Mapping[str, Mapping[str, str]]] = {
    "worker": {
        "oban_jobs": CHANGE,
        "oban_leaders": CHANGE,
        "oban_producers": CHANGE,
        "oban_owners": CHANGE,
        "oban_owned_queues": CHANGE,
        "oban_leases": CHANGE,
        "oban_queue_intents": CHANGE,
        "oban_cron_slots": CHANGE,
        "oban_unique": CHANGE,
        "oban_limiters": CHANGE,
        "oban_partitions": CHANGE,
        "oban_metrics": CHANGE,
        "oban_metrics_mark": CHANGE,
        "oban_migrations": "select",
    },
    "client": {
        "oban_jobs": "select, insert",
        "oban_unique": "select, insert, update",
        "oban_partitions": "select",
        "oban_migrations": "select",
    },
    "reader": {
        "oban_jobs": "select",
        "oban_leaders": "select",
        "oban_producers": "select",
        "oban_owners": "select",
        "oban_owned_queues": "select",
        "oban_leases": "select",
        "oban_queue_intents": "select",
        "oban_cron_slots": "select",
        "oban_unique": "select",
        "oban_limiters": "select",
        "oban_partitions": "select",
        "oban_metrics": "select",
        "oban_metrics_mark": "select",
        "oban_migrations": "select",
    },
}

GRANT_SEQUENCE: Final = """do $$ begin
  execute 'grant usage on sequence '
    || pg_get_serial_sequence(quote_ident({prefix_text}) || '.oban_jobs', 'id')
    || ' to ' || quote_ident({role_text});
end $$"""


def grant_statements(prefix: str, part: str, role: str) -> list[str]:
    """What lets an existing role do the work of `part` on the tables of one schema."""
    schema, grantee = identifier(prefix), identifier(role)
    statements = [f"grant usage on schema {schema} to {grantee}"]
    if part != "reader":
        statements += [
            f"grant execute on function {schema}.{function} to {grantee}"
            for function in (
                "oban_unique_is_held(uuid, bigint, integer, float8, boolean)",
                "oban_unique_states(jsonb)",
                f"oban_unique_bit({schema}.oban_job_state)",
                "oban_lane(jsonb, text, text, jsonb, jsonb)",
                "oban_lane_of(text, text, jsonb, jsonb)",
                "oban_lane_limits(text)",
                "oban_weight(jsonb)",
                "oban_spent(jsonb, float8, float8, bigint)",
                "oban_waiting_lanes(text, text, integer)",
                "oban_merged_bins(jsonb, jsonb)",
                CLAIM_LIMITED,
            )
        ]
    statements += [
        f"grant {privileges} on table {schema}.{table} to {grantee}"
        for table, privileges in GRANTS[part].items()
    ]
    if "insert" in GRANTS[part]["oban_jobs"]:
        filled = GRANT_SEQUENCE.replace("{prefix_text}", text(prefix))
        statements.append(filled.replace("{role_text}", text(role)))
    return statements
