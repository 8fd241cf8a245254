"""An I/O range register sends the kept region'"s"""

from harness import Attack, and

ATTACK = Attack(reads)
