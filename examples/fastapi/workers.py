"""What runs in the background."""

import os
import smtplib
from email.message import EmailMessage

from oban import job


@job(queue="mailers", max_attempts=5)
def send_welcome(email: str) -> None:
    """Mail the welcome through `SMTP_HOST`. A `def` runs in a thread, so it may block."""
    message = EmailMessage()
    message["From"] = "Hello <hello@app.example>"
    message["To"] = email
    message["Subject"] = "Welcome"
    message.set_content("Good to have you with us.\n")
    host, _, port = os.environ.get("SMTP_HOST", "127.0.0.1:1025").rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as smtp:
        smtp.send_message(message)
