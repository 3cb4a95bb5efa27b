"""Where counters, marks and what was learnt are kept: in memory, in one SQLite file, or in Redis or Valkey."""

from keywheel.stores.contract import (
    Answer,
    Archive,
    Caller,
    Claim,
    Figures,
    Parcel,
    Receipt,
    Sent,
    Standing,
    Store,
    StoreLost,
    Taken,
    Tally,
)
from keywheel.stores.diary import Diary
from keywheel.stores.files import set_aside
from keywheel.stores.ledger import Emptied, Ledger, Need
from keywheel.stores.opening import State, open_state, place_of

__all__ = [
    "Answer",
    "Archive",
    "Caller",
    "Claim",
    "Diary",
    "Emptied",
    "Figures",
    "Ledger",
    "Need",
    "Parcel",
    "Receipt",
    "Sent",
    "Standing",
    "State",
    "Store",
    "StoreLost",
    "Taken",
    "Tally",
    "open_state",
    "place_of",
    "set_aside",
]
