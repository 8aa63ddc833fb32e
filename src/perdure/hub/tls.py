"""The certificate a server shows, checked before the server starts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Serve https.

    Args:
        cert: The certificate, followed by those that lead to its authority, as PEM.
        key: Its private key, as PEM and not encrypted.
    """

    cert: Path
    key: Path

    def check(self) -> None:
        """Read both files.

        Raises:
            InvalidInput: One cannot be read, or the key is not the certificate's.
        """

        def no_password() -> str:  # without it OpenSSL asks at the terminal
            raise InvalidInput(
                f"The TLS key {self.key} is encrypted.", hint=f"Decrypt it: openssl pkey -in {self.key} -out plain.pem"
            )

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password=no_password)
        except ssl.SSLError as error:
            raise InvalidInput(
                f"The TLS certificate {self.cert} and the key {self.key} cannot be used: {error.reason or error}.",
                hint="Both must be PEM files, and the key the certificate's own.",
            ) from error
        except OSError as error:
            raise InvalidInput(
                f"The TLS certificate {self.cert} or its key {self.key} cannot be read: {error.strerror}.",
                hint="Name both files: --tls-cert fullchain.pem --tls-key privkey.pem",
            ) from error
