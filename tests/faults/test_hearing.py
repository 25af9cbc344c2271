"""The address to listen at goes away and comes back, while the database itself is well."""

from tests.faults.proxy import Proxy
from tests.roads import direct
from tests.running.support import eventually, reached

from oban import Job, Oban, Worker, worker


@worker()
class Told(Worker):
    async def process(self, job: Job) -> None: ...


async def test_an_address_that_goes_away_is_told_and_heard_again_when_it_is_back(
    oban_dsn: str,
) -> None:
    async with (
        Proxy(direct(oban_dsn)) as proxy,
        Oban(pool=oban_dsn, queues={"default": 1}, listen_dsn=proxy.dsn()) as oban,
    ):

        async def hears() -> bool:
            return oban.hearing is None

        async def told() -> bool:
            return "the connection for listening fails" in str(oban.hearing)

        await eventually(hears)
        proxy.refuse()
        proxy.cut_all()
        await eventually(told)
        await reached(oban, await oban.enqueue(Told.new()), "completed")
        proxy.accept()
        await eventually(hears)
