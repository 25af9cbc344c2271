"""When a cron entry runs: five fields read against the wall clock of one time zone.

The rule for the days on which a clock is changed:

- An entry that names hours (`30 2 * * *`) runs once for each wall-clock time it names. A time that
  the clock skips in spring runs at the moment after the gap: once, however many of the entry's
  times fall into the gap, and not a second time if it runs at that moment anyway. A time that the
  clock shows twice in autumn runs the first time only.
- An entry whose hour field covers all 24 hours (`*/15 * * * *`) follows real time instead: it runs
  at each real minute whose wall clock shows a time that fits. So it runs through both of the
  repeated hours, and never in a gap.

Gaps and repeats of any length obey it: half an hour at Lord Howe, a whole day left out in Samoa.
Slots are whole minutes of UTC, also under the historical offsets that hold seconds.
"""

from oban.cron.calendar import Cron

__all__ = ["Cron"]
