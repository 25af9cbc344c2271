"""What runs in the background: sending one mail, drawing the report."""

import os
import smtplib
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path

from examples.newsletter.chart import bar_chart
from oban import Cancel, Job, Record, Snooze, Worker, job, worker

SENDER = "Letters <letters@newsletter.example>"
TRY_LATER = 451


class Undeliverable(Exception):
    """The receiving server said no, in its own words."""


@worker(queue="mailers", max_attempts=3)
class SendIssue(Worker):
    """Mails one issue to one subscriber."""

    def process(self, job: Job) -> object:
        email = job.args["email"]
        if email in unsubscribed():
            return Cancel(f"{email} has unsubscribed")
        try:
            deliver(job, email)
        except smtplib.SMTPRecipientsRefused as refusal:
            code, text = refusal.recipients[email]
            if code == TRY_LATER:
                return Snooze(2)
            raise Undeliverable(f"{code} {text.decode()}") from refusal
        return None

    def backoff(self, job: Job) -> int:
        return 2 * job.attempt


@job(queue="reports")
def render_report(path: str, title: str, delivered: dict[str, int]) -> Record:
    """Draw how many mails each domain took. What is recorded stays with the job."""
    width, height = bar_chart(Path(path), title, delivered)
    size = Path(path).stat().st_size
    return Record({"path": path, "width": width, "height": height, "bytes": size})


def deliver(job: Job, email: str) -> None:
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = email
    message["Subject"] = f"Issue {job.args['issue']}: what the bees said"
    # The same for every attempt, so that a mail sent twice can be recognised as one.
    message["Message-ID"] = f"<{job.id}@newsletter.example>"
    message.set_content(f"Dear {job.args['name']},\n\nthe lime trees are in flower.\n")
    host, _, port = os.environ["NEWSLETTER_SMTP"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as smtp:
        smtp.send_message(message, to_addrs=[email])


def unsubscribed() -> frozenset[str]:
    """Looked up when a mail is about to leave: people unsubscribe after it was enqueued."""
    path = Path(os.environ["NEWSLETTER_UNSUBSCRIBED"])
    return addresses_in(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def addresses_in(path: Path, _changed_at: int) -> frozenset[str]:
    return frozenset(path.read_text("utf-8").split())
