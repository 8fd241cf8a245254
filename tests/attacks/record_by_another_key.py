"""A record that pins the thief's vault, on the thief's disk, signed by a key of his own."""

from harness import Attack, lab


def own_record(box):
    key, record = box.path("own.pem"), box.path("own.record")
    lab.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key])
    thief = box.shared.thief().identity
    box.appliance.tool("policyctl", "record", "--key", key, "--srk-name", thief["srk_name"], "--vault-id",
                       thief["vault_id"], "-o", record)
    with open(record, "rb") as file:
        box.boot.write("/gatehouse/endpoint.record", file.read(), box.directory)


ATTACK = Attack("disk", "endpoint record", change=own_record,
                disks=lambda box: [box.appliance.image, box.shared.thief().image])
