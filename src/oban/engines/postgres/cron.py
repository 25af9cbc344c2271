"""The verbs of the calendar: up to which slot each entry was seen to, and the jobs of those due."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from oban.engines.cron import DueSlots, LastSlot, Scheduled
from oban.engines.postgres.jobs import JobVerbs
from oban.engines.postgres.rows import EPOCH, moment
from oban.engines.postgres.statements import PostgresOperation, Steps
from oban.engines.postgres.unique import described_keys
from oban.fields import encode
from oban.job import Job

#: Seconds that the calendar waits for a unique key that somebody's transaction has.
PATIENCE: Final = 1.0


class CronVerbs(JobVerbs):
    def open_slots(
        self, name: str, entries: Mapping[str, str], begin: datetime | None = None
    ) -> PostgresOperation[dict[str, datetime]]:
        slot = None if begin is None else begin.timestamp()
        payload = encode(
            [
                {"entry": entry, "signature": signature, "slot": slot}
                for entry, signature in entries.items()
            ]
        )

        def steps() -> Steps[dict[str, datetime]]:
            rows = yield self.sql("open_slots", name=name, entries=payload)
            return {entry: moment(slot) or EPOCH for entry, slot in rows}

        return PostgresOperation("open_slots", steps, repeatable=True)

    def schedule(self, name: str, due: Sequence[DueSlots]) -> PostgresOperation[Scheduled]:
        payload = encode([slot_row(each) for each in due])

        def steps() -> Steps[Scheduled]:
            rows = yield self.sql("take_slots", name=name, slots=payload)
            busy = {str(entry): bool(is_busy) for entry, is_busy, _ in rows}
            paused = frozenset(str(entry) for entry, _, is_paused in rows if is_paused)
            overlapping = [each for each in due if each.exclusive and busy.get(each.entry)]
            left_out = paused.union(each.entry for each in overlapping)
            taken = [each for each in due if each.entry in busy.keys() - left_out]
            jobs: list[Job] = []
            if taken:
                wanted = [job for each in taken for job in each.jobs]
                jobs = yield from self.insert(wanted, patience=PATIENCE).steps()
                yield self.sql("note_slot_jobs", name=name, jobs=encode(job_rows(taken, jobs)))
            return Scheduled(
                frozenset(busy),
                frozenset(each.entry for each in overlapping),
                tuple(jobs),
                paused,
            )

        # What was done once is not done again: the slots have moved.
        return PostgresOperation(
            "schedule",
            steps,
            transactional=True,
            repeatable=True,
            unique_keys=lambda: described_keys([job for each in due for job in each.jobs]),
        )

    def last_slots(self, name: str) -> PostgresOperation[list[LastSlot]]:
        def steps() -> Steps[list[LastSlot]]:
            rows = yield self.sql("list_slots", name=name)
            return [
                LastSlot(
                    entry,
                    moment(slot) or EPOCH,
                    moment(job_slot),
                    job_id,
                    signature.rpartition(" ")[0],
                    signature.rpartition(" ")[2],
                    moment(paused_at),
                )
                for entry, slot, job_slot, job_id, signature, paused_at in rows
            ]

        return PostgresOperation("last_slots", steps, repeatable=True)

    def pause_entry(self, name: str, entry: str, *, paused: bool) -> PostgresOperation[bool]:
        def steps() -> Steps[bool]:
            return bool((yield self.sql("pause_entry", name=name, entry=entry, paused=paused)))

        return PostgresOperation("pause_entry", steps, repeatable=True)


def slot_row(due: DueSlots) -> dict[str, Any]:
    return {
        "entry": due.entry,
        "before": due.before.timestamp(),
        "slot": due.slot.timestamp(),
    }


def job_rows(taken: Sequence[DueSlots], jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The last job of each entry; `jobs` stand in the order of `taken`."""
    rows, end = [], 0
    for each in taken:
        end += len(each.jobs)
        last = {"entry": each.entry, "id": jobs[end - 1].id, "slot": each.slot.timestamp()}
        rows.append(last)
    return rows
