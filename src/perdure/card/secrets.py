"""What looks like a secret in a short text: a token, a key, a password, or the name of a setting that holds one."""

from __future__ import annotations

import re

# Each begins as its service marks it. Short text is searched: what merely looks like a token is better left out.
_TOKEN = (
    r"hf_[A-Za-z0-9_-]{16,}|(?:sk|nvapi|xai|pplx|wandb|pypi|npm)[_-][\w-]{16,}|(?:gsk|r8)_[A-Za-z0-9]{16,}"
    r"|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat[_-][\w-]{16,}|A[KS]IA[0-9A-Z]{16}|AIza[\w-]{30,}"
    r"|xox[abprs]-[\w-]{10,}|ya29\.[\w-]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}|dapi[0-9a-f]{32}|eyJ[\w-]{10,}\.[\w-]{10,}"
)
# Of a setting with one of these names only the name is told: `key` and `token` mean many things.
_SECRET_NAME = re.compile(
    r".*(secret|passw|passphrase|credential|private_?key|api_?key|access_?key|auth(?!or(?!i[sz])))(?!_?type).*"
    r"|(?!(eos|bos|pad|sep|cls|unk|mask)_).*(?<![a-z])token"
    r"|(.*_)?(?<!text_)(?<!label_)(?<!prompt_)(?<!completion_)(?<!column_)(?<!image_)(?<!sort_)(?<!input_)(?<!target_)key"
    r"|(.*_)?(pw|pwd|bearer|cookie)|((db|user|hub|root|admin|login|smtp|sql|proxy|ssh)_)?pass"
)
_ASSIGNED = re.compile(r"(?<![\w.-])([A-Za-z][\w.-]{0,80})[\"']?\s{0,4}[:=]\s{0,4}[\"']?([^\s\"',;]*)")
_IN_ADDRESS = re.compile(
    r"(?i:https?|ftp)://[^/?#\s@]+@|://[^/\s@:]*:[^/\s@]*@"
    r"|[?&](?i:api_?key|key|\w*token|sig|\w*password|x-(?:amz|goog)-(?:signature|credential|security-token))=[^&\s]"
)
_SECRET = re.compile(
    rf"(?<![A-Za-z0-9])(?:{_TOKEN}|(?i:bearer|basic)\s+(?=\S*\d)[\w.~+/=-]{{12,}})"
    rf"|-----BEGIN [A-Z ]*PRIVATE KEY|{_IN_ADDRESS.pattern}"
)


def is_secret(text: str) -> bool:
    """Whether text looks as if it held a token, a key or a password.

    >>> is_secret("hf_" + "a" * 30), is_secret("https://me:word@example.org"), is_secret("hf_transfer")
    (True, True, False)
    >>> is_secret('{"hub_token": "abc123"}'), is_secret("https://x.org/a?X-Amz-Signature=0a"), is_secret("token: 7")
    (True, True, False)
    """
    return _SECRET.search(text) is not None or any(
        names_secret(name) and len(value) > 5 and re.search(r"\d", value) for name, value in _ASSIGNED.findall(text)
    )


def assigns_secret(text: str) -> bool:
    """Whether a secret is given in a text by its name, whatever it looks like: `{"hub_token": "abc"}`."""
    return any(names_secret(name) and value for name, value in _ASSIGNED.findall(text))


def names_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret, whatever it looks like.

    >>> [name for name in ("hub_token", "WANDB-KEY", "db.pwd", "num_tokens", "pad_token_id") if names_secret(name)]
    ['hub_token', 'WANDB-KEY', 'db.pwd']
    """
    spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:200])
    return _SECRET_NAME.fullmatch(re.sub(r"[^A-Za-z0-9]+", "_", spelled).strip("_").lower()) is not None
