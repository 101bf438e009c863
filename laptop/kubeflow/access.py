"""Who and where, from options and the environment. Secrets can always come from a file."""

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path

from sightline.errors import SightlineError

HIDDEN = "its value is not shown"


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server is and who we are; what is empty is found by kfp itself."""

    host: str = ""
    ui: str = ""
    namespace: str = ""
    token: str = field(default="", repr=False)
    cookies: str = field(default="", repr=False)
    ca: Path | None = None

    @property
    def sent(self) -> str:
        """By which login we came, without showing it."""
        given = [name for name, value in (("a token", self.token), ("cookies", self.cookies)) if value]
        return f"sent {' and '.join(given)}" if given else "sent no token and no cookies"

    @property
    def advice(self) -> str:
        """How to log in, or log in again."""
        fresh = "It may have expired: log in again" if self.token or self.cookies else "Log in"
        return (
            f"{fresh} with --cookies FILE (the session cookie of a browser that is logged in, like "
            "authservice_session=…) or --token-file FILE."
        )

    def without_secrets(self, text: str) -> str:
        """A text for people, with neither the token nor any cookie in it."""
        secrets = {self.token, self.cookies, *(part.partition("=")[2] for part in self.cookies.split(";"))}
        for secret in sorted((part.strip() for part in secrets if part.strip()), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def access_of(options: argparse.Namespace) -> Access:
    """What the options say, else the environment; a file of a secret that cannot be used is refused."""
    said = os.environ.get
    ca = options.ca or said("KF_PIPELINES_CA") or said("SSL_CERT_FILE")
    if options.token_file:
        token = _line("--token-file", _read("--token-file", options.token_file))
    else:
        token = _line("--token", options.token or said("KF_PIPELINES_TOKEN", ""))
    return Access(
        host=_address(options.host or said("KF_PIPELINES_ENDPOINT") or said("KFP_ENDPOINT", "")),
        ui=_address(options.ui or said("KF_PIPELINES_UI_ENDPOINT", "")),
        namespace=options.kfp_namespace or said("KFP_NAMESPACE", ""),
        token=token,
        cookies=_cookies(options.cookies or said("KF_PIPELINES_COOKIES", "")),
        ca=Path(ca) if ca else None,
    )


def names_server(options: argparse.Namespace) -> bool:
    """Whether it is said where Kubeflow Pipelines is; else kfp reaches it through the cluster of the kubeconfig."""
    return bool(options.host or os.environ.get("KF_PIPELINES_ENDPOINT") or os.environ.get("KFP_ENDPOINT"))


def _address(text: str) -> str:
    text = text.strip().rstrip("/").partition("/#")[0]
    return text if not text or "://" in text else f"https://{text}"


def _cookies(text: str) -> str:
    if text and ("=" not in text or Path(text).is_file()):
        text = _read("--cookies", Path(text))
    cookies = "; ".join(part.strip() for part in text.replace("\n", ";").split(";") if part.strip())
    cookies = _line("--cookies", cookies.removeprefix("Cookie:").strip())
    if any("=" not in part for part in cookies.split(";") if part):
        raise SightlineError(f"--cookies holds something that is not NAME=VALUE; {HIDDEN}.")
    return cookies


def _read(option: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        where = path if option == "--token-file" else "what it names"
        raise SightlineError(f"{option}: {where} is not a file that can be read as text.") from None


def _line(option: str, text: str) -> str:
    """A header takes one line of Latin letters; Python's own error would show the secret."""
    text = text.strip()
    if not text.isascii() or not text.isprintable():
        raise SightlineError(f"{option} holds more than one line, or characters that are not ASCII; {HIDDEN}.")
    return text
