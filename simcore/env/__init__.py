"""Episodes: a round of runs behind one window, with what an agent sees, may do, and is judged by."""

__all__ = ["ActionRecord", "Episodes"]

from simcore.env.episodes import Episodes
from simcore.env.ledger import ActionRecord
