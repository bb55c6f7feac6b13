"""What every table of the configuration is made of: the frozen base and the types that several tables share.

Not here: any table (``config``, ``doors``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

KIB = 1024
MIB = 1024 * KIB

Port = Annotated[int, Field(ge=0, le=65_535)]
DurabilityName = Literal["synced", "relaxed", "memory"]


class Section(BaseModel):
    """Base of all tables: frozen, and a key it does not know is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
