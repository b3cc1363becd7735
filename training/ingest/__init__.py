"""From files of events, of any size, to the arrays of a data set, in bounded memory."""

from __future__ import annotations

from nann.training.ingest._prepare import PARQUET as PARQUET
from nann.training.ingest._prepare import SEQUENCES as SEQUENCES
from nann.training.ingest._prepare import TEXT as TEXT
from nann.training.ingest._prepare import EventFiles as EventFiles
from nann.training.ingest._prepare import Prepared as Prepared
from nann.training.ingest._prepare import prepared_events as prepared_events
