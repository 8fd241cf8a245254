"""What a quote is over (attestation/evidence/claims.hpp)."""
import hashlib


def qualifying_data(nonce, claims):
    """In hexadecimal, as tpm2_quote and tpm2_checkquote take it."""
    parts = b"".join(len(part).to_bytes(2, "big") + part for part in (nonce, claims))
    return hashlib.sha256(b"gatehouse quote v3" + parts).hexdigest()
