"""The firmware's SMBIOS strings carry a credential that makes systemd write files in the guest."""

from harness import Attack

ATTACK = Attack("firmware", until=r"GUEST-IS-OURS|Reached target.*basic.target",
                extra=["-smbios", "type=11,value=io.systemd.credential:tmpfiles.extra=w /dev/kmsg - - - - GUEST-IS-OURS"],
                refused=lambda seen: "basic.target" in seen.text and "GUEST-IS-OURS" not in seen.text)
