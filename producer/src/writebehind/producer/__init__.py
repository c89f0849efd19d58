"""The producer library: what services import."""

from writebehind.shared.entity import (
    CacheAside,
    Entity,
    Int2,
    Int4,
    Json,
    Key,
    Last,
    Max,
    Min,
    Numeric,
    Sum,
    WriteBehind,
    WriteThrough,
)
from writebehind.shared.errors import (
    ClientClosed,
    ConfigurationError,
    DatabaseDown,
    DeclarationError,
    InvalidWrite,
    NotApplied,
    PartlyFailed,
    Refused,
    RowMissing,
    Shed,
    Unknown,
    WritebehindError,
)
from writebehind.shared.settings import Settings, load_settings

from ._async.cached import AsyncCached
from ._async.client import AsyncClient
from ._async.receipt import AsyncReceipt
from ._sync.cached import Cached
from ._sync.client import Client
from ._sync.receipt import Receipt
from .cached import cached
from .report import CloseReport

__all__ = [
    # clients
    "AsyncClient",
    "Client",
    "AsyncReceipt",
    "Receipt",
    "CloseReport",
    # declarations
    "Entity",
    "Key",
    "Last",
    "Sum",
    "Max",
    "Min",
    "Int2",
    "Int4",
    "Numeric",
    "Json",
    # strategies
    "WriteBehind",
    "WriteThrough",
    "CacheAside",
    # results of functions
    "cached",
    "AsyncCached",
    "Cached",
    # settings
    "Settings",
    "load_settings",
    # errors
    "WritebehindError",
    "InvalidWrite",
    "Refused",
    "RowMissing",
    "ConfigurationError",
    "DeclarationError",
    "NotApplied",
    "Shed",
    "Unknown",
    "PartlyFailed",
    "DatabaseDown",
    "ClientClosed",
]
