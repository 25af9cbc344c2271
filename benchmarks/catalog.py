"""The systems under measurement: what each is, what it needs and what it can be asked."""

from dataclasses import dataclass
from typing import Literal

#: Named where a measurement asks for it; a system without it is left out of that measurement.
#: `bulk`: inserts many at once. `concurrent`: many coroutines insert. `paced`: starts a job that
#: comes while nothing else does. `delay`: jobs with a time. `fail`: a failed job is tried again at
#: once. `priorities`: more than one. `processes`: several share jobs. `payload`: large arguments.
Capability = Literal[
    "bulk", "concurrent", "paced", "delay", "fail", "priorities", "processes", "payload"
]

COMMON: frozenset[Capability] = frozenset({"concurrent", "paced", "processes", "payload"})


@dataclass(frozen=True)
class System:
    name: str
    title: str
    store: Literal["postgres", "redis"]
    #: Pinned, for pip, or for npm if the adapter is for Node.js. None of them: the interpreter that
    #: runs the measurement has what is needed.
    requirements: tuple[str, ...]
    #: The lowest version of Python, or of Node.js, that the requirements run on.
    python: tuple[int, int]
    adapter: str
    can: frozenset[Capability]
    #: Where jobs are until they run, one a row. None in Redis, where nobody counts rows.
    table: str = ""

    @property
    def node(self) -> bool:
        """Whether the adapter is a program for Node.js."""
        return self.adapter.endswith(".mjs")


SYSTEMS = (
    System(
        name="oban",
        title="oban (this checkout)",
        store="postgres",
        requirements=(),
        python=(3, 11),
        adapter="oban_adapter.py",
        can=COMMON | {"bulk", "delay", "fail", "priorities"},
        table="oban_jobs",
    ),
    System(
        name="bare_loop",
        title="the limit: a bare loop",
        store="postgres",
        requirements=(),
        python=(3, 11),
        adapter="bare_loop_adapter.py",
        can=COMMON | {"bulk"},
        table="bare_jobs",
    ),
    System(
        name="bare_sql",
        title="the limit: bare SQL",
        store="postgres",
        requirements=(),
        python=(3, 11),
        adapter="bare_sql_adapter.py",
        can=COMMON - {"paced"} | {"bulk"},
        table="bare_jobs",
    ),
    System(
        name="published",
        title="oban 0.7.0 (published)",
        store="postgres",
        requirements=("oban==0.7.0",),
        python=(3, 12),
        adapter="published_adapter.py",
        can=COMMON | {"bulk", "delay", "fail", "priorities"},
        table="oban_jobs",
    ),
    System(
        name="pgqueuer",
        title="pgqueuer 1.6.0",
        store="postgres",
        requirements=("pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0"),
        python=(3, 11),
        adapter="pgqueuer_adapter.py",
        can=COMMON | {"bulk", "delay", "fail", "priorities"},
        table="pgqueuer",
    ),
    System(
        name="procrastinate",
        title="procrastinate 3.10.0",
        store="postgres",
        requirements=("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9"),
        python=(3, 10),
        adapter="procrastinate_adapter.py",
        can=COMMON | {"bulk", "delay", "fail", "priorities"},
        table="procrastinate_jobs",
    ),
    System(
        name="chancy",
        title="chancy 0.26.0",
        store="postgres",
        requirements=("chancy==0.26.0", "psycopg[binary,pool]==3.3.9"),
        python=(3, 11),
        adapter="chancy_adapter.py",
        can=COMMON | {"bulk", "delay", "fail", "priorities"},
        table="chancy_jobs",
    ),
    System(
        name="saq",
        title="saq 0.26.4 on PostgreSQL",
        store="postgres",
        requirements=("saq[postgres]==0.26.4", "psycopg[binary,pool]==3.3.9"),
        python=(3, 9),
        adapter="saq_adapter.py",
        can=COMMON | {"delay", "fail", "priorities"},
        table="saq_jobs",
    ),
    System(
        name="graphile_worker",
        # 0.18 asks for Node.js 22.18 and measured alike.
        title="graphile-worker 0.17.3 (Node.js)",
        store="postgres",
        requirements=("graphile-worker@0.17.3", "pg@8.23.1"),
        python=(20, 0),
        adapter="graphile_adapter.mjs",
        can=COMMON | {"bulk", "delay", "priorities"},
        table="graphile_worker._private_jobs",
    ),
    System(
        name="celery",
        title="celery 5.7.0, threads (Redis)",
        store="redis",
        requirements=("celery[redis]==5.7.0", "redis==8.1.0"),
        python=(3, 10),
        adapter="celery_adapter.py",
        can=COMMON | {"delay", "fail", "priorities"},
    ),
    System(
        name="dramatiq",
        title="dramatiq 2.2.1 (Redis)",
        store="redis",
        requirements=("dramatiq[redis]==2.2.1", "redis==8.1.0"),
        python=(3, 10),
        adapter="dramatiq_adapter.py",
        can=COMMON | {"delay"},
    ),
    System(
        name="taskiq",
        title="taskiq 0.13.0 (Redis streams)",
        store="redis",
        requirements=("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis==8.1.0"),
        python=(3, 10),
        adapter="taskiq_adapter.py",
        can=COMMON | {"fail"},
    ),
    System(
        name="arq",
        title="arq 0.28.0 (Redis)",
        store="redis",
        requirements=("arq==0.28.0", "redis[hiredis]==5.3.1"),
        python=(3, 10),
        adapter="arq_adapter.py",
        can=COMMON | {"delay", "fail"},
    ),
)

BY_NAME = {system.name: system for system in SYSTEMS}
