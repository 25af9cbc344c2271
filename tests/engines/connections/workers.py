"""A worker that ends at once."""

from oban import Job, Worker, worker


@worker()
class Echo(Worker):
    async def process(self, job: Job) -> None:
        pass
