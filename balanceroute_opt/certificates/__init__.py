"""Claims and their solver-free verifier (``docs/certificates.md``)."""

from __future__ import annotations

from .bound import Bound
from .format import SCHEMA, VERSION, new_certificate, read_certificate, write_certificate
from .verifier import verify

__all__ = ["SCHEMA", "VERSION", "Bound", "new_certificate", "read_certificate", "verify", "write_certificate"]
