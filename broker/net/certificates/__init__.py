"""Certificates: the broker's own, those of the configuration, and the store that renews and exchanges them.

Here belongs what is on disk and what is checked before it is used. Not here: TLS itself (the core, ``net.https``).
"""

from broker.net.certificates.configured import HTTPS, open_certificates
from broker.net.certificates.material import CertificateError, MaterialFiles, TlsMaterial, load
from broker.net.certificates.own import Authority, OwnCertificates
from broker.net.certificates.store import CertificateStore

__all__ = [
    "HTTPS",
    "Authority",
    "CertificateError",
    "CertificateStore",
    "MaterialFiles",
    "OwnCertificates",
    "TlsMaterial",
    "load",
    "open_certificates",
]
