#!/usr/bin/env python3
"""One connection of an emulated guest, carried to a port of the host's loopback.

usage: relay.py PORT

QEMU's user network starts it for each connection to a forwarded address (guestfwd=...-cmd:), with the guest's end as its
standard input: the only way out of a network that is otherwise closed (restrict=on).
"""

import socket
import sys
import threading


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def main():
    guest = socket.socket(fileno=0)
    server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    back = threading.Thread(target=pump, args=(server, guest))
    back.start()
    pump(guest, server)
    back.join()


if __name__ == "__main__":
    main()
