"""Colours of the terminal: those of Okabe and Ito (2008), told apart by everybody, for dark and light backgrounds."""

__all__ = ["DARK", "LIGHT", "Palette"]

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """What is drawn in which colour."""

    plain: str  #: as promised
    over: str  #: beyond what was promised
    alarm: str
    suspect: str
    act: str  #: what the agent does
    hand: str  #: what you do
    truth: str  #: what the agent cannot see
    faint: str
    ground: str  #: behind what is selected


DARK = Palette("#56B4E9", "#E8743B", "#F0E442", "#CC79A7", "#2EC99A", "#F5A623", "#C9B3E6", "#8491A0", "#24364B")
LIGHT = Palette("#0072B2", "#C24E00", "#8A6D00", "#A8447A", "#00795A", "#A85F00", "#6A4C93", "#6B7480", "#D6E6F5")
