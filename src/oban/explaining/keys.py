"""What a unique key has to do with a job."""

from oban.engines.explain import JobFacts
from oban.explaining.words import command, meta_of
from oban.explanation import Cause
from oban.states import FINAL


def causes(facts: JobFacts) -> list[Cause]:
    meta, holder = meta_of(facts.job), facts.holder
    is_other = holder is not None and holder.job_id != facts.job.id
    if (key := meta.get("uniq_lost")) is not None:
        return [lost(facts, key)]
    if (key := meta.get("uniq_key")) is None or holder is None:
        return []
    details = {"key": key, "holder": holder.job_id, "holder_state": holder.state}
    if is_other:
        if holder.state is None:
            return []
        return [
            Cause(
                "unique_elsewhere",
                f"its unique key has passed to job {holder.job_id}, which is {holder.state}: while "
                "that one counts, a retry of this one is refused",
                command("explain", holder.job_id),
                details,
            )
        ]
    if facts.job.state in FINAL:
        return []
    text = "it holds a unique key: enqueueing its like returns this job"
    return [Cause("unique", text, None, details)]


def lost(facts: JobFacts, key: object) -> Cause:
    holder = facts.holder
    if holder is None or holder.state is None:
        to = "a job like it, which is gone"
    else:
        to = f"job {holder.job_id}, which is {holder.state}"
    return Cause(
        "unique_lost",
        f"it has lost its unique key to {to}, and goes on without: both may run",
        None,
        {
            "key": key,
            "holder": holder and holder.job_id,
            "holder_state": holder and holder.state,
        },
    )
