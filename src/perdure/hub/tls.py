"""The certificate a server shows, checked before the server starts."""

from __future__ import annotations

import os
import pwd
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
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> InvalidInput:
        for path in (self.cert, self.key):
            try:
                path.open("rb").close()
            except PermissionError:
                user = _name_of(os.geteuid())
                return InvalidInput(
                    f"The TLS file {path} {_whose(path)}, and the hub runs as {user}, who may not read it.",
                    hint=f"Give {user} a copy: sudo install -o {user} -m 600 {path} FOLDER/",
                )
            except OSError as found:
                return InvalidInput(
                    f"The TLS file {path} cannot be read: {found.strerror}.",
                    hint="Name both files: --tls-cert fullchain.pem --tls-key privkey.pem",
                )
        return InvalidInput(f"The TLS certificate {self.cert} or its key cannot be read: {error.strerror}.")


def _whose(path: Path) -> str:
    try:
        return f"belongs to {_name_of(path.stat().st_uid)}"
    except OSError:
        return "is in a folder that is closed to others"


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
