"""The list: reading it, and making one of any length."""

import csv
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from examples.newsletter.mail_server import BOUNCES, GREYLISTS, OVERLOADED

HERE = Path(__file__).parent
SUBSCRIBERS = HERE / "subscribers.csv"
UNSUBSCRIBED = HERE / "unsubscribed.txt"


@dataclass(frozen=True, slots=True)
class Subscriber:
    email: str
    name: str


def read(path: Path) -> list[Subscriber]:
    with path.open(newline="", encoding="utf-8") as file:
        return [Subscriber(row["email"], row["name"]) for row in csv.DictReader(file)]


def write(path: Path, subscribers: Iterable[Subscriber]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("email", "name"))
        writer.writerows((each.email, each.name) for each in subscribers)


def generate(count: int, seed: int = 7) -> tuple[list[Subscriber], list[str]]:
    """That many people, no two with one address, and the addresses of those who unsubscribed."""
    chance = random.Random(seed)
    found: dict[str, Subscriber] = {}
    while len(found) < count:
        given, family = chance.choice(GIVEN), chance.choice(FAMILY)
        local = chance.choice(FORMS).format(
            given=plain(given), family=plain(family), initial=plain(given)[0], number=len(found)
        )
        (domain,) = chance.choices(list(DOMAINS), weights=list(DOMAINS.values()))
        email = f"{local}@{domain}"
        found.setdefault(email, Subscriber(email, f"{given} {family}"))
    trouble = {BOUNCES, OVERLOADED, GREYLISTS}
    content = [email for email in found if email.rpartition("@")[2] not in trouble]
    left = chance.sample(content, k=min(len(content), count // 20))
    return list(found.values()), sorted(left)


def plain(name: str) -> str:
    return name.lower().replace(" ", "")


#: Domains and their share of the list, of a hundred.
DOMAINS = {
    "post.example": 24,
    "mail.example": 18,
    "university.example": 12,
    "studio.example": 9,
    "bakery.example": 6,
    "news.press.example": 5,
    "co-op.example": 4,
    "bücher.example": 3,
    GREYLISTS: 8,
    BOUNCES: 6,
    OVERLOADED: 5,
}

FORMS = (
    "{given}.{family}",
    "{given}.{family}",
    "{initial}.{family}",
    "{given}_{family}",
    "{given}+letters",
    "{family}{number}",
)

GIVEN = (
    "Ada", "Aino", "Amara", "Anna", "Ben", "Björn", "Chidi", "Chloé", "Dana", "Diego", "Elif",
    "Emil", "Farah", "Grace", "Hana", "Ines", "Ivan", "Jonas", "José", "Kofi", "Lena", "Liam",
    "Mei", "Mila", "Nadia", "Noor", "Olga", "Omar", "Paula", "Priya", "Quinn", "Ravi", "Rosa",
    "Sami", "Sofía", "Tariq", "Uma", "Vera", "Wanda", "Yuki", "Zoë",
)  # fmt: skip

FAMILY = (
    "Achebe", "Andersson", "Bauer", "Castro", "Chen", "Costa", "Demir", "Dubois", "Eriksen",
    "Fischer", "García", "Haddad", "Ito", "Janssen", "Kaya", "Kim", "Kowalska", "Larsen", "Lopez",
    "Mensah", "Moreau", "Müller", "Nguyen", "Novák", "O'Brien", "Okafor", "Patel", "Rossi",
    "Santos", "Singh", "Tanaka", "van Dijk", "Weber", "Yilmaz", "Zhou",
)  # fmt: skip
