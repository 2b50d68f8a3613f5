"""Tokens of every kind, the forged ones above all. No JOSE library writes those, so the form is made by hand."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")


def base64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    """A number as JWK writes it."""
    return base64url(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True)
class Key:
    """A signing key and what its JWK says."""

    kid: str
    alg: str
    private: PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, alg: str, kid: str | None = None) -> "Key":
        """A new key for an algorithm."""
        if alg == "EdDSA":
            private: PrivateKey = ed25519.Ed25519PrivateKey.generate()
        elif alg in CURVES:
            private = ec.generate_private_key(CURVES[alg])
        else:
            private = rsa.generate_private_key(65537, 2048)
        return cls(kid or f"{alg}-{id(private):x}", alg, private)

    def jwk(self) -> dict[str, Any]:
        """The public half."""
        common = {"kid": self.kid, "alg": self.alg, "use": "sig"}
        if isinstance(self.private, rsa.RSAPrivateKey):
            public = self.private.public_key().public_numbers()
            return common | {"kty": "RSA", "n": number(public.n), "e": number(public.e)}
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            point, size = self.private.public_key().public_numbers(), (self.private.key_size + 7) // 8
            curve = {32: "P-256", 48: "P-384"}[size]
            return common | {"kty": "EC", "crv": curve, "x": number(point.x, size), "y": number(point.y, size)}
        return common | {"kty": "OKP", "crv": "Ed25519", "x": base64url(self.private.public_key().public_bytes_raw())}

    def sign(self, data: bytes, alg: str | None = None) -> bytes:
        """A signature as JWS writes it."""
        alg = alg or self.alg
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(data)
        digest = HASHES[alg[2:]]
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            size = (self.private.key_size + 7) // 8
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(digest)))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        if alg.startswith("PS"):
            return self.private.sign(data, padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH), digest)
        return self.private.sign(data, padding.PKCS1v15(), digest)


@cache
def pooled(alg: str, number_: int = 0) -> Key:
    """A key that the whole session shares: RSA keys are slow to make."""
    return Key.generate(alg, f"{alg.lower()}-{number_}")


def compact(header: Any, payload: Any, key: Key | None, alg: str | None = None) -> str:
    """A compact JWS. Header and payload may be raw bytes, so that they need not be JSON. No key: no signature."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(base64url(part) for part in parts)
    return f"{signed}.{base64url(key.sign(signed.encode(), alg)) if key else ''}"


def hmac_signed(header: dict[str, Any], payload: dict[str, Any], secret: bytes) -> str:
    """A token signed with a shared secret, the oldest forgery: the secret is the public key."""
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, payload))
    return f"{signed}.{base64url(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
