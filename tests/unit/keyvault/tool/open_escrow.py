#!/usr/bin/env python3
"""open_escrow.py BLOB PRIVATE_KEY.pem: the recovery key in an escrow blob, read without Gatehouse (keyvault/tool/escrow.hpp)."""
import sys

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

with open(sys.argv[1], "rb") as blob_file, open(sys.argv[2], "rb") as key_file:
    blob, key = blob_file.read(), load_pem_private_key(key_file.read(), None)
head, ephemeral, nonce, sealed = blob[:145], blob[80:145], blob[145:157], blob[157:]
point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
shared = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ephemeral))
wrapping = HKDF(SHA256(), 32, None, b"gatehouse escrow v1" + ephemeral + point).derive(shared)
print(AESGCM(wrapping).decrypt(nonce, sealed, head).hex())
