"""A disk that is not the hypervisor's (virtio) has a root file system with the same labels and GUIDs."""

from harness import Attack, Lab

ATTACK = Attack("disk", until=rf"guest: no task disk|{Lab.MARK}|machine is reset",
                extra=lambda box: ["-drive", f"if=none,id=plain,format=raw,snapshot=on,file={box.shared.plain_disk().image}",
                                   "-device", "virtio-blk-pci,drive=plain"],
                refused=lambda seen: Lab.MARK not in seen.text and "guest: no task disk" in seen.text)
