"""Testing what an application enqueues, and its workers.

`process_job` runs a worker once, without a database. `mode("inline")` does so wherever a job is
enqueued. With jobs left in the table, `assert_enqueued`, `refute_enqueued` and `all_enqueued` look
at them, `drain_queue` runs them, and `reset_oban` deletes them between tests. Those take an Oban or
its name; it need not be started, and should not run the queues that are tested.
"""

from oban.testing.draining import drain_queue
from oban.testing.enqueued import all_enqueued, assert_enqueued, refute_enqueued
from oban.testing.filters import Filters
from oban.testing.isolation import mode, reset_oban
from oban.testing.processing import process_job

__all__ = [
    "Filters",
    "all_enqueued",
    "assert_enqueued",
    "drain_queue",
    "mode",
    "process_job",
    "refute_enqueued",
    "reset_oban",
]
